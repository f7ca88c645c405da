"""StepModule: one training step as a module, so that DDP and torch.compile can wrap it whole."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from embedkit.config.model import Schedule
from embedkit.errors import PluginError
from embedkit.nn.model import Model
from embedkit.nn.values import Outputs
from embedkit.training.distributed import same_state
from embedkit.training.loss import CATALOGUE, Forward, Loss, LossResult
from embedkit.training.pieces import forward_in_pieces
from embedkit.training.schedule import Clock
from embedkit.views import Random, View

Key = tuple[str, str, str]
"""(network, tower, view): what a forward is remembered by (decision 13)."""


@dataclass(frozen=True)
class WeightedLoss:
    """A loss of a stage: its name in the log, its weight, the prefixes that its towers share (ascending, the last one whole), and the
    share of each in its value (they sum to one; None: all alike)."""

    name: str
    loss: Loss
    weight: float | Schedule
    prefixes: tuple[int, ...] = ()
    prefix_shares: tuple[float, ...] | None = None


@dataclass(frozen=True, eq=False)
class StepResult:
    """What one step gives.

    Attributes:
        total: weighted sum of the losses, a scalar with gradient.
        scalars: name of a loss, or ``loss/part`` → detached scalar, before the weight.
        kept: name of a loss → what its ``forward`` kept for ``after_update``.
        step: the step, for ``after_update``.
    """

    total: Tensor
    scalars: dict[str, Tensor]
    kept: dict[str, Mapping[str, Tensor]]
    step: StepView


class StepView:
    """One step as a loss sees it (the protocol ``Step``): remembers forwards, whoever asks first."""

    def __init__(self, module: StepModule, views: Mapping[str, View], clock: Clock, random: Random) -> None:
        self._module = module
        self._memo: dict[Key, Outputs] = {}
        self.views = views
        self.clock = clock
        self.random = random

    @property
    def progress(self) -> float:
        """Share of the stage that is done, 0 to 1."""
        return self.clock.progress

    def value(self, number: float | Schedule) -> float:
        """What a scheduled option is at this step."""
        return self.clock.value(number)

    def run(self, view: str, tower: str, network: str = "student", layers: tuple[int, ...] = ()) -> Outputs:
        """The outputs of a tower for a view; see ``Step``.

        Raises:
            PluginError: the forward was not named in any loss's needs.
        """
        key = (network, tower, view)
        found = self._memo.get(key)
        if found is None:
            found = self._memo[key] = self._module.outputs(key, self.views)
        missing = [layer for layer in layers if layer not in found.layers]
        if missing:
            raise PluginError(f"a loss asked for layers {missing} of tower '{tower}' on view '{view}', which no loss's needs name")
        return found

    def rows(self, tower: str, rows: Tensor) -> Outputs:
        """The outputs of a tower for some rows of its table; see ``Step``."""
        return self._module.rows(tower, rows)

    def snapshot(self, tower: str) -> Tensor:
        """The embeddings of all rows of a tower's table; see ``Step``."""
        return self._module.student.embed_all(tower)

    def narrow(self, dim: int) -> NarrowStep:
        """The same step with every output cut to its first ``dim`` numbers."""
        return NarrowStep(self, dim)


class NarrowStep:
    """A step whose outputs are cut to a prefix and normalised again."""

    def __init__(self, step: StepView, dim: int) -> None:
        self._step = step
        self._dim = dim
        self._memo: dict[Key, Outputs] = {}
        self.views = step.views
        self.random = step.random

    @property
    def progress(self) -> float:
        """As the whole step's."""
        return self._step.progress

    def value(self, number: float | Schedule) -> float:
        """As the whole step's."""
        return self._step.value(number)

    def run(self, view: str, tower: str, network: str = "student", layers: tuple[int, ...] = ()) -> Outputs:
        """As the whole step's, cut."""
        key = (network, tower, view)
        found = self._memo.get(key)
        if found is None:
            found = self._memo[key] = self._step.run(view, tower, network, layers).prefix(self._dim)
        return found

    def rows(self, tower: str, rows: Tensor) -> Outputs:
        """As the whole step's, cut."""
        return self._step.rows(tower, rows).prefix(self._dim)

    def snapshot(self, tower: str) -> Tensor:
        """As the whole step's, not cut."""
        return self._step.snapshot(tower)

    def narrow(self, dim: int) -> NarrowStep:
        """Cut the whole step instead."""
        return NarrowStep(self._step, dim)


class StepModule(nn.Module):
    """The student, the losses and the teacher networks of a stage; ``forward`` is one step.

    Args:
        student: the model that is trained.
        losses: the losses with their weights.
        networks: further networks by name; they run in eval mode and without gradient.
        autocast: type of the student's and the networks' forwards; None for float32. Losses compute in float32 either way.
        forward_rows: rows that a forward takes at a time; None for the whole batch.
    """

    def __init__(
        self,
        student: Model,
        losses: list[WeightedLoss],
        networks: Mapping[str, Model] | None = None,
        autocast: torch.dtype | None = None,
        forward_rows: int | None = None,
    ) -> None:
        super().__init__()
        self.student = student
        self.losses = nn.ModuleDict({weighted.name: weighted.loss for weighted in losses})
        self.networks = nn.ModuleDict(networks or {})
        self.weighted = tuple(losses)
        self.autocast = autocast
        self.forward_rows = forward_rows
        self._plan = plan_forwards([weighted.loss for weighted in losses])
        self._tokens = {key_of(f) for weighted in losses for f in weighted.loss.needs.forwards if f.tokens or f.layers}
        self.train()

    def train(self, mode: bool = True) -> StepModule:
        """Networks other than the student stay in eval mode."""
        super().train(mode)
        self.networks.eval()
        return self

    def forward(self, views: Mapping[str, View], clock: Clock, random: Random) -> StepResult:
        """Run every loss, and with it every forward that a loss pulls.

        Args:
            views: streams and augmented views by name.
            clock: where the stage is.
            random: the step's generators.
        """
        step = StepView(self, views, clock, random)
        self._read_towers(step)
        total: Tensor | None = None
        scalars: dict[str, Tensor] = {}
        kept: dict[str, Mapping[str, Tensor]] = {}
        for weighted in self.weighted:
            result = _over_prefixes(weighted, step)
            scalars[weighted.name] = result.loss.detach()
            for part, value in result.parts.items():
                scalars[f"{weighted.name}/{part}"] = value
            if result.keep:
                kept[weighted.name] = result.keep
            weight = clock.value(weighted.weight)
            term = result.loss if weight == 1.0 else result.loss * weight
            total = term if total is None else total + term
        assert total is not None
        return StepResult(total, scalars, kept, step)

    def outputs(self, key: Key, views: Mapping[str, View]) -> Outputs:
        """Run one planned forward. Called by the step, once a key."""
        network, _, view = key
        if key not in self._plan:
            raise PluginError(f"a loss asked for tower '{key[1]}' of network '{network}' on view '{view}', which no loss's needs name")
        seen = self.student.all_rows(key[1]) if view == CATALOGUE else views[view]
        if network == "student":
            return self._run(self.student, seen, key)
        with torch.no_grad():
            return self._run(cast(Model, self.networks[network]), seen, key)

    def rows(self, tower: str, rows: Tensor) -> Outputs:
        """A forward of the student on some rows (int64 [R]) of a tower's table, whichever a loss picked."""
        with nullcontext() if self.autocast is None else torch.autocast(rows.device.type, self.autocast):
            return cast(Outputs, self.student(self.student.some_rows(tower, rows), tower))

    def _read_towers(self, step: StepView) -> None:
        """Where a loss wants the catalogue of a tower that encoders read rows of, let them read that very forward."""
        self.student.held_rows.clear()
        for tower in self.student.read_towers:
            if ("student", tower, CATALOGUE) in self._plan:
                self.student.held_rows[tower] = step.run(CATALOGUE, tower).pooled

    def _run(self, model: Model, view: View, key: Key) -> Outputs:
        tower, layers = key[1], self._plan[key]
        with nullcontext() if self.autocast is None else torch.autocast(next(model.parameters()).device.type, self.autocast):
            if self.forward_rows is None:
                return cast(Outputs, model(view, tower, layers=layers))
            return forward_in_pieces(model, view, tower, self.forward_rows, layers=layers, tokens=key in self._tokens)

    def after_update(self, result: StepResult) -> None:
        """Let losses change their queues, centres and prototypes, after the optimiser's step."""
        with torch.no_grad():
            for weighted in self.weighted:
                weighted.loss.after_update(result.step, result.kept.get(weighted.name, {}))
            same_state(self.losses, buffers_only=True)


def plan_forwards(losses: list[Loss]) -> dict[Key, tuple[int, ...]]:
    """Every forward that the losses' needs name, with the union of the layers asked for."""
    plan: dict[Key, tuple[int, ...]] = {}
    for loss in losses:
        for need in loss.needs.forwards:
            key = key_of(need)
            plan[key] = tuple(sorted({*plan.get(key, ()), *need.layers}))
    return plan


def key_of(need: Forward) -> Key:
    """What a forward is remembered by."""
    return need.network, need.tower, need.view


def _over_prefixes(weighted: WeightedLoss, step: StepView) -> LossResult:
    """The loss, or its weighted mean over the prefixes (MRL, Kusupati et al. 2022). Parts and kept tensors: the whole width's."""
    if not weighted.loss.per_prefix or len(weighted.prefixes) < 2:
        whole: LossResult = weighted.loss(step)
        return whole
    results = [weighted.loss(step.narrow(dim)) for dim in weighted.prefixes]
    shares = weighted.prefix_shares or (1.0 / len(results),) * len(results)
    mean = torch.stack([result.loss * share for result, share in zip(results, shares, strict=True)]).sum()
    return LossResult(mean, results[-1].parts, results[-1].keep)
