from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from embedkit.errors import UsageError
from embedkit.nn.values import Outputs, Tokens
from embedkit.schema import Schema, Tower
from embedkit.testing.conformance.augmentation import item_context, item_view, random_of
from embedkit.training.loss import LossContext
from embedkit.views import Mix, View
from embedkit_contrastive.barlow import BarlowTwins, MixedBarlowTwins
from embedkit_contrastive.configs import BarlowTwinsConfig, MixedBarlowTwinsConfig, MixupConfig
from embedkit_contrastive.mixup import Mixup

ROWS, WIDTH = 7, 4


class FakeStep:
    """Serves fixed vectors."""

    def __init__(self, share=0.3, order=None):
        draw = torch.Generator().manual_seed(3)
        self.raw = {name: torch.randn(ROWS, WIDTH, generator=draw, requires_grad=True) for name in ("a", "b", "m")}
        rows = torch.randperm(ROWS, generator=draw) if order is None else order
        self.views = {name: View(item_view().batch) for name in self.raw}
        self.views["m"] = replace(self.views["a"], mix=Mix(self.views["b"], rows, share))

    def run(self, view, tower, network="student", layers=()):
        x = self.raw[view]
        empty = torch.zeros(ROWS, 1, dtype=torch.bool)
        return Outputs(Tokens(x.unsqueeze(1), empty, empty, {}), x, x, x, (WIDTH,))

    def value(self, number):
        return number


def context():
    schema = Schema({}, {"item": Tower("item", (), "items")}, {})
    return LossContext(schema, {"item": WIDTH}, WIDTH, ("a", "b", "m"), lambda t: torch.ones(9), {"items": 9})


def plain(**options):
    return BarlowTwins(BarlowTwinsConfig(tower="item", views=("a", "b"), **({"projector": []} | options)), context=context())


def mixed(**options):
    given = {"tower": "item", "views": ("a", "b"), "mixed": "m", "projector": []} | options
    return MixedBarlowTwins(MixedBarlowTwinsConfig(**given), context=context())


def standardised(x, unit_length=False):
    x = x.detach().double().numpy()
    if unit_length:
        x = x / np.linalg.norm(x, axis=1, keepdims=True)
    return (x - x.mean(0)) / x.std(0, ddof=1)


def twins(a, b, weight):
    c = a.T @ b / ROWS
    off = c - np.diag(np.diag(c))
    return ((1 - np.diag(c)) ** 2).sum() + weight * (off**2).sum()


@pytest.mark.parametrize("unit_length", [False, True])
def test_is_the_definition(unit_length):
    step = FakeStep()
    a, b = (standardised(step.raw[name], unit_length) for name in ("a", "b"))
    found = plain(redundancy=0.02, unit_length=unit_length)(step)
    assert float(found.loss.detach()) == pytest.approx(twins(a, b, 0.02), rel=1e-4)
    assert float(found.parts["diagonal"]) + 0.02 * float(found.parts["redundancy"]) == pytest.approx(float(found.loss.detach()), rel=1e-5)


def test_the_mixed_term_is_the_definition_and_weighs_scale_times_lambda():
    step, weight, scale = FakeStep(share=0.3), 0.02, 4.0
    a, b, m = (standardised(step.raw[name]) for name in ("a", "b", "m"))
    permuted, share = b[step.views["m"].mix.rows.numpy()], 0.3
    wanted = 0.0
    for z in (a, b):
        target = share * (a.T @ z) / ROWS + (1 - share) * (permuted.T @ z) / ROWS
        wanted += ((m.T @ z / ROWS - target) ** 2).sum()
    found = mixed(redundancy=weight, mixed_scale=scale)(step)
    assert float(found.parts["mixed"]) == pytest.approx(wanted, rel=1e-4)
    assert float(found.loss.detach()) == pytest.approx(twins(a, b, weight) + scale * weight * wanted, rel=1e-4)


def test_targets_have_a_gradient():
    """The mixed term alone reaches the two views through its targets and its correlations."""
    step = FakeStep()
    with_it, without = mixed(mixed_scale=4.0)(step).loss, mixed(mixed_scale=0.0)(step).loss
    grads = torch.autograd.grad(with_it - without, [step.raw["a"], step.raw["b"], step.raw["m"]])
    assert all(grad.abs().sum() > 0 for grad in grads)
    numeric = _numeric(step, "a")
    assert torch.allclose(grads[0][0], numeric, atol=1e-3)


def _numeric(step, name, eps=1e-2):
    """The gradient of the mixed term by the first row, by differences."""
    found = torch.zeros(WIDTH)
    for i in range(WIDTH):
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                step.raw[name][0, i] += sign * eps
            values.append(float((mixed(mixed_scale=4.0)(step).loss - mixed(mixed_scale=0.0)(step).loss).detach()))
            with torch.no_grad():
                step.raw[name][0, i] -= sign * eps
        found[i] = (values[0] - values[1]) / (2 * eps)
    return found


def test_a_number_that_never_changes_is_no_nan():
    step = FakeStep()
    step.raw = {name: torch.cat([x.detach()[:, :-1], torch.ones(ROWS, 1)], 1).requires_grad_() for name, x in step.raw.items()}
    loss = mixed()(step).loss
    loss.backward()
    assert loss.isfinite()
    assert all(x.grad.isfinite().all() for x in step.raw.values())


def test_a_view_that_is_no_mixture_of_the_two_is_refused():
    step = FakeStep()
    step.views["m"] = step.views["a"]
    with pytest.raises(UsageError, match="view 'm' must be made by mixup of 'a' with other = 'b'"):
        mixed()(step)


def test_the_projector_is_part_of_the_loss():
    loss = plain(projector=[12, 6])
    names = set(loss.state_dict())
    assert {"projector.layers.0.weight", "projector.layers.3.weight"} <= names
    assert not any("running" in name for name in names)


def test_mixup_draws_one_share_a_batch_and_a_permutation():
    augmentation = Mixup(MixupConfig(other="b"), context=item_context(1))
    views = {"a": item_view(), "b": item_view()}
    shares = []
    for seed in range(200):
        made = augmentation.among(views["a"], views, random_of(seed))[0]
        assert made.mix.other is views["b"]
        assert sorted(made.mix.rows.tolist()) == list(range(7))
        shares.append(made.mix.share)
    assert 0.4 < np.mean(shares) < 0.6
    assert np.quantile(shares, 0.9) > 0.8  # Beta(1, 1) is uniform
    with pytest.raises(UsageError, match="cannot be mixed again"):
        augmentation.among(made, views, random_of(0))
