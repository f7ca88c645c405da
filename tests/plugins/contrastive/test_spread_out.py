from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from embedkit.data.batch import Batch
from embedkit.errors import UsageError
from embedkit.schema import Schema, Tower
from embedkit.testing.conformance.loss import LossConformance
from embedkit.training.loss import LossContext
from embedkit.views import View
from embedkit_contrastive.configs_spread_out import SpreadOutConfig
from embedkit_contrastive.spread_out import SpreadOut


class TestLogSumExp(LossConformance):
    def loss(self, context):
        return SpreadOut(SpreadOutConfig(tower="item", view="a"), context=context)


class TestMoments(LossConformance):
    def loss(self, context):
        return SpreadOut(SpreadOutConfig(tower="item", view="a", form="moments"), context=context)


def step_of(vectors, rows=None):
    return SimpleNamespace(
        views={"ssl": View(Batch({}, rows={} if rows is None else {"items": torch.tensor(rows)}))},
        run=lambda view, tower: SimpleNamespace(embedding=vectors),
        value=lambda number: number,
    )


def loss_of(**options):
    schema = Schema({}, {"item": Tower("item", (), "items")}, {})
    context = LossContext(schema, {"item": 4}, 4, ("ssl",), lambda t: torch.ones(9), {"items": 9})
    return SpreadOut(SpreadOutConfig(**({"tower": "item", "view": "ssl"} | options)), context=context)


def vectors(n):
    return F.normalize(torch.randn(n, 4, generator=torch.Generator().manual_seed(0)), dim=1)


def test_log_sum_exp_is_the_softmax_with_both_views_as_they_are():
    v, t, rows = vectors(4), 0.3, [3, 5, 3, -1]
    total = 0.0
    for i in range(4):
        others = [math.exp(float(v[i] @ v[j]) / t) for j in range(4) if j != i and rows[j] != rows[i]]
        own = math.exp(float(v[i] @ v[i]) / t)
        total -= math.log(own / (own + sum(others)))
    assert float(loss_of(temperature=t)(step_of(v, rows)).loss) == pytest.approx(total / 4, abs=1e-6)


def test_moments_are_those_of_the_pairs():
    v = vectors(5)
    pairs = torch.tensor([float(v[i] @ v[j]) for i in range(5) for j in range(5) if i != j])
    wanted = float(pairs.mean() ** 2 + max(0.0, float((pairs**2).mean()) - 1 / 4))
    assert float(loss_of(form="moments")(step_of(v)).loss) == pytest.approx(wanted, abs=1e-6)


def test_orthogonal_rows_are_spread_out_already():
    assert float(loss_of(form="moments")(step_of(torch.eye(4))).loss) == 0.0
    assert float(loss_of(form="moments")(step_of(torch.ones(3, 4) / 2)).loss) == pytest.approx(1 + 1 - 1 / 4)


@pytest.mark.parametrize("form", ["log_sum_exp", "moments"])
def test_it_pushes_rows_apart(form):
    x = (torch.ones(6, 4) + 0.1 * torch.randn(6, 4, generator=torch.Generator().manual_seed(1))).requires_grad_()
    loss = loss_of(form=form)
    before = float(F.cosine_similarity(x[0], x[1], dim=0).detach())
    for _ in range(50):
        (gradient,) = torch.autograd.grad(loss(step_of(F.normalize(x, dim=1), list(range(6)))).loss, x)
        x = (x - gradient).detach().requires_grad_()
    assert float(F.cosine_similarity(x[0], x[1], dim=0).detach()) < before - 0.2


@pytest.mark.parametrize("form", ["log_sum_exp", "moments"])
@pytest.mark.parametrize("rows", [[], [2], [2, 2, 2]])
def test_no_pair_is_a_zero_with_zero_gradients(form, rows):
    v = vectors(len(rows)).requires_grad_()
    found = loss_of(form=form)(step_of(v, rows)).loss
    found.backward()
    assert float(found.detach()) == 0.0
    assert not v.grad.any()


def test_a_copy_among_others_leaves_gradients_finite():
    v = vectors(3).requires_grad_()
    loss_of()(step_of(v, [1, 1, 1 + 1])).loss.backward()
    assert torch.isfinite(v.grad).all()


def test_a_misspelt_tower_is_refused():
    with pytest.raises(UsageError, match="spread_out: tower = 'itm' is no tower; the towers are item"):
        loss_of(tower="itm")
