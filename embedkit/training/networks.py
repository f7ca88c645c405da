"""Teacher networks: moving averages of the student, and frozen bundles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from embedkit.config.model import NetworkConfig, Scheduled
from embedkit.errors import UsageError
from embedkit.nn.model import Model
from embedkit.training.compute import seeded
from embedkit.training.schedule import Clock

if TYPE_CHECKING:
    from embedkit.training.stages import StageContext


class Networks:
    """The networks of a stage by name; losses reach them through the step.

    Attributes:
        models: by name.
        kept: the average whose weights the stage leaves in the model; None for the student's own.
    """

    def __init__(self, configs: dict[str, NetworkConfig], context: StageContext) -> None:
        self.models: dict[str, Model] = {}
        self._student = context.model
        self._averages: list[tuple[str, Scheduled]] = []
        for name, config in configs.items():
            if context.model.read_towers:
                raise UsageError(
                    f"networks.{name}: a field is encoded by reading tower '{context.model.read_towers[0]}', which a second network "
                    "cannot do: give that field a table (encoder 'embedding')"
                )
            if config.kind == "ema":
                self.models[name] = _copy(context)
                self._averages.append((name, config.momentum))
            else:
                self.models[name] = _frozen(name, config, context)
            self.models[name].requires_grad_(False)
        self.kept = next((self.models[name] for name, config in configs.items() if config.keep), None)

    @torch.no_grad()
    def update(self, clock: Clock) -> None:
        """Move every average towards the student: ``w = m w + (1 - m) student``. Buffers are copied."""
        for name, momentum in self._averages:
            average = self.models[name]
            approach(list(average.parameters()), list(self._student.parameters()), clock.value(momentum))
            for own, new in zip(average.buffers(), self._student.buffers(), strict=True):
                own.copy_(new)

    def state_dict(self) -> dict[str, dict[str, torch.Tensor]]:
        """Weights of the averages; frozen networks are read from their bundles again."""
        return {name: self.models[name].state_dict() for name, _ in self._averages}

    def load_state_dict(self, state: dict[str, dict[str, torch.Tensor]]) -> None:
        """Take what ``state_dict`` returned."""
        for name, weights in state.items():
            self.models[name].load_state_dict(weights)


@torch.no_grad()
def approach(average: Sequence[Tensor], weights: Sequence[Tensor], momentum: float) -> None:
    """``a = m a + (1 - m) w`` in place, for every pair."""
    torch._foreach_lerp_(list(average), list(weights), 1.0 - momentum)


def _copy(context: StageContext) -> Model:
    """The student once more; its own weights are drawn and thrown away, so the global generators are put back."""
    with seeded(0):
        copy = Model(context.plan.model, context.store.codecs.stats)
    copy.load_state_dict(context.model.state_dict())
    return copy.to(context.device)


def _frozen(name: str, config: NetworkConfig, context: StageContext) -> Model:
    from embedkit.bundle import load_bundle

    assert config.bundle is not None
    bundle = load_bundle(context.plan.base / config.bundle, context.host.registry)
    model: Model = bundle.model
    missing = [tower for tower in context.plan.schema.towers if tower not in model.dims]
    if missing:
        raise UsageError(f"networks.{name}: the bundle {config.bundle} has no tower '{missing[0]}'; it has {', '.join(model.dims)}")
    for tower in context.plan.schema.towers.values():
        if bundle.codecs.fingerprint(tower.fields) != context.store.codecs.fingerprint(tower.fields):
            raise UsageError(
                f"networks.{name}: the bundle {config.bundle} encodes the fields of tower '{tower.name}' in another way than this run "
                "(its vocabulary or statistics differ), so it cannot read this run's batches: use a bundle of the same data"
            )
    return model.to(context.device)
