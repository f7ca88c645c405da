from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from embedkit.config.model import Schedule
from embedkit.data.batch import Batch
from embedkit.errors import PluginError
from embedkit.nn.values import Outputs, Tokens
from embedkit.testing.conformance.augmentation import random_of
from embedkit.testing.conformance.loss import loss_context
from embedkit.training.loss import Forward, Loss, LossResult, Needs
from embedkit.training.schedule import Clock
from embedkit.training.step import StepModule, WeightedLoss, plan_forwards
from embedkit.views import View


class CountingModel(nn.Module):
    """A tower that counts its forwards."""

    read_towers = ()
    held_rows: dict = {}

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 4, generator=torch.Generator().manual_seed(0)))
        self.calls = []

    def forward(self, view, tower, *, layers=()):
        self.calls.append((tower, layers, torch.is_grad_enabled(), self.training))
        x = view.batch.extras["x"] @ self.weight
        pad = torch.zeros(len(x), 1, dtype=torch.bool)
        unit = F.normalize(x, dim=1)
        return Outputs(Tokens(x.unsqueeze(1), pad, pad, {}), x, unit, x, (2, 4), True, {d: x.unsqueeze(1) for d in layers})


class Probe(Loss):
    """Asks for what it is told to, and returns the sum of the embeddings."""

    def __init__(self, needs, asks=None, per_prefix=False):
        super().__init__(None, context=loss_context())
        self._needs, self.asks, self.per_prefix = needs, asks or needs.forwards, per_prefix
        self.updates = []

    @property
    def needs(self):
        return self._needs

    def forward(self, step):
        found = [step.run(f.view, f.tower, f.network, f.layers).embedding for f in self.asks]
        total = sum(x.abs().sum() for x in found)
        return LossResult(total, {"width": torch.tensor(float(found[0].shape[1]))}, {"x": found[0].detach()})

    def after_update(self, step, kept):
        self.updates.append(kept["x"])


def views():
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))
    return {"main": View(Batch({}, extras={"x": x})), "a": View(Batch({}, extras={"x": 2 * x}))}


def run(module, step=0):
    return module(views(), Clock(step, 10), random_of(0))


def test_a_forward_runs_once_whoever_asks_and_with_all_layers():
    model = CountingModel()
    first = Probe(Needs((Forward("main", "item"), Forward("a", "item"))))
    second = Probe(Needs((Forward("main", "item", layers=(2,)),)))
    third = Probe(Needs((Forward("main", "item", layers=(1,)),)))
    module = StepModule(model, [WeightedLoss(name, loss, 1.0) for name, loss in zip("xyz", (first, second, third), strict=True)])
    run(module)
    assert [(tower, layers) for tower, layers, *_ in model.calls] == [("item", (1, 2)), ("item", ())]
    assert plan_forwards([first, second, third])["student", "item", "main"] == (1, 2)


def test_losses_are_weighted_by_their_schedules_and_logged_without_weight():
    probe = Probe(Needs((Forward("main", "item"),)))
    weight = Schedule.model_validate({"from": 0.0, "to": 1.0, "over": 10})
    module = StepModule(CountingModel(), [WeightedLoss("one", probe, 2.0), WeightedLoss("two", probe, weight)])
    result = run(module, step=5)
    value = result.scalars["one"]
    assert float(result.total.detach()) == pytest.approx(2.5 * float(value), rel=1e-6)
    assert float(result.scalars["two"]) == float(value)
    assert "one/width" in result.scalars


@pytest.mark.parametrize("shares", [None, (0.25, 0.75)])
def test_per_prefix_is_the_mean_over_prefixes(shares):
    needs = Needs((Forward("main", "item"),))
    module = StepModule(CountingModel(), [WeightedLoss("mrl", Probe(needs, per_prefix=True), 1.0, (2, 4), shares)])
    found = run(module)
    whole = module.student(views()["main"], "item")
    first, second = shares or (0.5, 0.5)
    wanted = first * whole.prefix(2).embedding.abs().sum() + second * whole.embedding.abs().sum()
    assert float(found.total.detach()) == pytest.approx(float(wanted.detach()))
    assert float(found.scalars["mrl/width"]) == 4.0


def test_an_undeclared_forward_is_told():
    loss = Probe(Needs((Forward("main", "item"),)), asks=(Forward("a", "item"),))
    with pytest.raises(PluginError, match="tower 'item' of network 'student' on view 'a', which no loss's needs name"):
        run(StepModule(CountingModel(), [WeightedLoss("x", loss, 1.0)]))
    loss = Probe(Needs((Forward("main", "item"),)), asks=(Forward("main", "item", layers=(3,)),))
    with pytest.raises(PluginError, match=r"layers \[3\]"):
        run(StepModule(CountingModel(), [WeightedLoss("x", loss, 1.0)]))


def test_other_networks_run_in_eval_mode_without_gradient():
    student, teacher = CountingModel(), CountingModel()
    loss = Probe(Needs((Forward("main", "item"), Forward("main", "item", "teacher"))))
    module = StepModule(student, [WeightedLoss("x", loss, 1.0)], {"teacher": teacher})
    module.train()
    run(module).total.backward()
    assert student.calls[0][2:] == (True, True)
    assert teacher.calls[0][2:] == (False, False)
    assert student.weight.grad is not None
    assert teacher.weight.grad is None


def test_after_update_gets_what_was_kept():
    loss = Probe(Needs((Forward("main", "item"),)))
    module = StepModule(CountingModel(), [WeightedLoss("x", loss, 1.0)])
    result = run(module)
    module.after_update(result)
    assert torch.equal(loss.updates[0], result.step.run("main", "item").embedding.detach())


def test_autocast_is_around_the_forwards_only():
    class Inside(Probe):
        def forward(self, step):
            x = step.run("main", "item").pooled
            assert x.dtype == torch.bfloat16
            return LossResult((x.float() @ x.float().T).sum())

    module = StepModule(CountingModel(), [WeightedLoss("x", Inside(Needs((Forward("main", "item"),))), 1.0)], autocast=torch.bfloat16)
    assert run(module).total.dtype == torch.float32
