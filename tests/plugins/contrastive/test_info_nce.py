from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from embedkit.data.batch import Batch
from embedkit.errors import UsageError
from embedkit.nn.values import Outputs, Tokens
from embedkit.schema import Schema, Tower
from embedkit.training.loss import LossContext
from embedkit.views import View
from embedkit_contrastive import info_nce
from embedkit_contrastive.configs import InfoNCEConfig
from embedkit_contrastive.info_nce import InfoNCE


class FakeStep:
    """Serves fixed vectors."""

    def __init__(self, vectors, rows=None):
        self.vectors = vectors
        self.views = {name: View(Batch({}, rows={} if rows is None else {"items": rows})) for name in vectors}

    def run(self, view, tower, network="student", layers=()):
        x = self.vectors[view]
        empty = torch.zeros(len(x), 1, dtype=torch.bool)
        return Outputs(Tokens(x.unsqueeze(1), empty, empty, {}), x, x, x, (x.shape[1],))

    def value(self, number):
        return number


def loss_of(**options):
    schema = Schema({}, {"item": Tower("item", (), "items")}, {})
    context = LossContext(schema, {"item": 4}, 4, ("a", "b"), lambda t: torch.ones(9), {"items": 9})
    return InfoNCE(InfoNCEConfig(tower="item", views=("a", "b"), **options), context=context)


def vectors(n):
    g = torch.Generator().manual_seed(0)
    return {name: F.normalize(torch.randn(n, 4, generator=g), dim=1) for name in ("a", "b")}


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("at_once", [2**24, 0])
def test_is_the_definition_with_copies_left_out(monkeypatch, symmetric, at_once):
    monkeypatch.setattr(info_nce, "_AT_ONCE", at_once)
    v, rows, t = vectors(5), [3, 5, 3, -1, -1], 0.3  # unknown rows are copies of none
    found = float(loss_of(symmetric=symmetric, temperature=t)(FakeStep(v, torch.tensor(rows))).loss)

    def direction(a, b):
        total = 0.0
        for i in range(5):
            scores = [float(a[i] @ b[j]) / t for j in range(5) if j == i or rows[j] != rows[i] or rows[j] < 0]
            total += math.log(sum(math.exp(s) for s in scores)) - float(a[i] @ b[i]) / t
        return total / 5

    wanted = direction(v["a"], v["b"])
    if symmetric:
        wanted = 0.5 * (wanted + direction(v["b"], v["a"]))
    assert found == pytest.approx(wanted, abs=1e-5)


def test_an_empty_batch_is_a_zero():
    v = {k: x.requires_grad_() for k, x in vectors(0).items()}
    loss = loss_of()(FakeStep(v)).loss
    loss.backward()
    assert float(loss.detach()) == 0.0


def test_views_of_two_draws_are_refused():
    v = vectors(4)
    v["b"] = v["b"][:3]
    with pytest.raises(UsageError, match="views 'a' and 'b' have 4 and 3 rows"):
        loss_of()(FakeStep(v))
