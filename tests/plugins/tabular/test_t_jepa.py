from __future__ import annotations

import copy
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from embedkit.errors import UsageError
from embedkit.testing.conformance.augmentation import random_of
from embedkit.testing.conformance.loss import LossConformance
from embedkit.training.schedule import Clock
from embedkit.training.step import StepModule, WeightedLoss
from embedkit.views import View
from embedkit_tabular.configs_ssl import JepaMasksConfig, TJepaConfig
from embedkit_tabular.masks import TARGET, JepaMasks
from embedkit_tabular.t_jepa import TJepa

sys.path.insert(0, str(Path(__file__).parent))
from rows import DIM, NAMES, SPECS, batch, changed, loss_context, masks_context, model


class TestTJepa(LossConformance):
    fields = SPECS

    def loss(self, context):
        return TJepa(TJepaConfig(tower="item", context="a", target="b", heads=2, layers=1), context=context)

    def dress(self, view):
        rows = len(view.batch.rows["items"])
        targets = torch.zeros(rows, 2, len(NAMES), dtype=torch.bool)
        targets[:, 0, 1:3] = targets[:, 1, 2:] = True
        return replace(view, params={TARGET + name: mask for name, mask in zip(NAMES, targets.unbind(2), strict=True)})


class TestTJepaOfTheStudent(TestTJepa):
    def loss(self, context):
        options = TJepaConfig(tower="item", context="a", network="student", error="smooth_l1", normalize="none", heads=2, width=6)
        return TJepa(options, context=context)


def make(**options) -> TJepa:
    torch.manual_seed(1)
    return TJepa(TJepaConfig(**{"tower": "row", "context": "seen", "heads": 2} | options), context=loss_context())


def masks(**options) -> JepaMasks:
    return JepaMasks(JepaMasksConfig(**{"context": (0.25, 0.5), "target": (0.25, 0.5)} | options), context=masks_context())


def module(loss: TJepa, student=None) -> StepModule:
    student = model() if student is None else student
    return StepModule(student, [WeightedLoss("t_jepa", loss, 1.0)], {"teacher": copy.deepcopy(student).requires_grad_(False)})


def views(rows=12, seed=0) -> dict[str, View]:
    main = View(batch(rows, seed))
    return {"main": main, "seen": masks()(main, random_of(seed))[0]}


def run(step: StepModule, found: dict[str, View]) -> torch.Tensor:
    return step(found, Clock(0, 10), random_of(0)).total


def test_hidden_cells_change_nothing_that_the_student_or_the_predictor_gives():
    """Other values in the cells that the context hides, targets among them: equal tokens and equal predictions."""
    found, student, loss = views(), model(registers=2), make()
    seen = found["seen"]
    other = replace(seen, batch=changed(seen.batch, dict(seen.hidden)))
    assert not torch.equal(other.batch.columns["size"].values, seen.batch.columns["size"].values)
    asked = loss._asked(type("Step", (), {"views": found})())
    outputs = [student(view, "row") for view in (seen, other)]
    assert torch.equal(outputs[0].tokens.x, outputs[1].tokens.x)
    assert torch.equal(outputs[0].embedding, outputs[1].embedding)
    predictions = [loss.predictor(one.tokens, asked) for one in outputs]
    assert torch.equal(*predictions)
    visible = {name: ~mask for name, mask in seen.hidden.items()}
    third = student(replace(seen, batch=changed(seen.batch, visible)), "row")
    assert not torch.allclose(loss.predictor(third.tokens, asked), predictions[0])


def test_a_target_depends_on_the_whole_row():
    """The teacher encodes the row, and the target is cut out of that: a cell outside the target changes it."""
    found, loss = views(), make()
    asked = loss._asked(type("Step", (), {"views": found})())
    teacher = model()
    before = loss._wanted(teacher(found["main"], "row").tokens, asked)
    shown = {name: ~mask for name, mask in found["seen"].hidden.items()}
    after = loss._wanted(teacher(View(changed(found["main"].batch, shown)), "row").tokens, asked)
    assert not torch.allclose(before, after)


def test_the_loss_is_the_mean_over_single_targets():
    """One target feature at a time, by hand, from the same predictor."""
    found, student, loss = views(rows=5), model(), make()
    step = module(loss, student)
    total = run(step, found)
    whole = F.layer_norm(step.networks["teacher"](found["main"], "row").tokens.x[:, 1:], (DIM,))
    errors = []
    for row in range(5):
        one = found["seen"]
        context = student(one, "row").tokens
        keep = ~context.pad[row]
        alone = replace(context, x=context.x[row : row + 1], pad=~keep.unsqueeze(0), hidden=context.hidden[row : row + 1])
        for k in range(4):
            asked = torch.tensor([[[i for i, name in enumerate(NAMES) if one.params[TARGET + name][row, k]]]])
            errors.append((loss.predictor(alone, asked)[0, 0] - whole[row, asked[0, 0]]).square().mean())
    torch.testing.assert_close(total, torch.stack(errors).mean())


def test_targets_are_brought_to_one_size():
    found, teacher = views(rows=40), model()
    tokens = teacher(found["main"], "row").tokens
    asked = torch.arange(len(NAMES)).expand(40, 1, -1)
    plain, token, batched = (make(normalize=how)._wanted(tokens, asked)[:, 0] for how in ("none", "token", "batch"))
    torch.testing.assert_close(plain, tokens.x[:, 1:])
    torch.testing.assert_close(token, F.layer_norm(plain, (DIM,)))
    torch.testing.assert_close(batched.mean(0), torch.zeros(len(NAMES), DIM), atol=1e-5, rtol=0)
    torch.testing.assert_close(batched.std(0, correction=0), torch.ones(len(NAMES), DIM), atol=1e-4, rtol=0)
    same = replace(tokens, x=tokens.x[:1].expand(40, -1, -1))
    assert make(normalize="batch")._wanted(same, asked).abs().max() < 1e-3


def test_the_teacher_gets_no_gradient_and_the_student_does():
    step = module(make())
    run(step, views()).backward()
    assert all(p.grad is None for p in step.networks.parameters())
    reached = {name for name, p in step.student.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert any(name.startswith("trunks") for name in reached)
    assert any(name.startswith("encoders") for name in reached)
    own = module(make(network="student", target="main"))
    whole = own.student(views()["main"], "row").tokens.x.detach()
    run(own, views()).backward()
    assert torch.equal(own.student(views()["main"], "row").tokens.x.detach(), whole)


def test_the_student_as_teacher_is_stopped():
    """The gradient is that of a copy which stands still."""
    student = model()
    copied, own = module(make(), student), StepModule(student, [WeightedLoss("t_jepa", make(network="student"), 1.0)])
    grads = []
    for step in (copied, own):
        student.zero_grad(set_to_none=True)
        run(step, views()).backward()
        grads.append({name: p.grad.clone() for name, p in student.named_parameters() if p.grad is not None})
    assert grads[0].keys() == grads[1].keys()
    for name in grads[0]:
        torch.testing.assert_close(grads[0][name], grads[1][name])


@pytest.mark.parametrize("registers", [0, 1, 3])
def test_it_learns(registers):
    torch.manual_seed(0)
    step = module(make(), model(registers=registers))
    optimizer = torch.optim.AdamW([*step.student.parameters(), *step.losses.parameters()], lr=3e-3)
    fixed = [views(64, seed) for seed in range(4)]
    first = sum(float(run(step, found).detach()) for found in fixed)
    for turn in range(120):
        run(step, fixed[turn % 4]).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    assert sum(float(run(step, found).detach()) for found in fixed) < 0.6 * first


def test_targets_of_one_loss_fit_a_tower_that_sees_more():
    """Fields that no target names stay visible and are context."""
    found = views()
    seen = masks(fields=["price", "size"], context=(0.5, 0.5), target=(0.5, 0.5))(found["main"], random_of(0))[0]
    loss = make()
    assert set(loss._asked(type("Step", (), {"views": {"seen": seen}})()).unique().tolist()) <= {2, 3}
    assert run(module(loss), {"main": found["main"], "seen": seen}).isfinite()


def test_what_cannot_be_is_told():
    found = views()
    with pytest.raises(UsageError, match="view 'seen' says no targets: make it with the augmentation jepa_masks"):
        run(module(make()), {"main": found["main"], "seen": found["main"]})
    params = dict(found["seen"].params)
    params[TARGET + "size"] = torch.zeros_like(params[TARGET + "size"])
    params[TARGET + "price"] = torch.zeros_like(params[TARGET + "size"])
    with pytest.raises(UsageError, match="have 0 to . features, where every target of a batch must have equally many"):
        run(module(make()), {"main": found["main"], "seen": replace(found["seen"], params=params)})
    with pytest.raises(UsageError, match="the predictor's 3 heads do not divide its width 4"):
        make(heads=3)
