"""Optimisers of a stage: parameter groups, schedules, clipping, one step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from embedkit.component import Config
from embedkit.config.model import Schedule, TrainConfig, Use
from embedkit.errors import UsageError, suggest
from embedkit.registry import Registry
from embedkit.training.schedule import Clock, peak


class Optimizers:
    """The optimiser of all parameters, and, where the run file names one, that of the embedding tables.

    Args:
        parameters: those that are trained, by name.
        tables: of these, the embedding tables.
        sparse: whether the tables' gradients are sparse; clipping leaves such tables out (decision 17).
        config: the stage.
        registry: for the optimisers' names.
        where: of the stage in messages.
    """

    def __init__(
        self,
        parameters: dict[str, nn.Parameter],
        tables: Iterable[nn.Parameter],
        *,
        sparse: bool,
        config: TrainConfig,
        registry: Registry,
        where: str,
    ) -> None:
        table_ids = {id(table) for table in tables}
        own = [p for p in parameters.values() if id(p) in table_ids]
        rest = [p for p in parameters.values() if id(p) not in table_ids]
        self.clip = config.clip
        self.clipped = rest if sparse else [*rest, *own]
        self.parts: list[torch.optim.Optimizer] = []
        self._scheduled: list[tuple[dict[str, Any], str, Schedule]] = []
        if config.table_optimizer is None:
            self._add(config.optimizer, [*_groups(rest), *_group(own, "table")], registry, f"{where}.optimizer")
        else:
            self._add(config.optimizer, _groups(rest), registry, f"{where}.optimizer")
            self._add(config.table_optimizer, _group(own, "table"), registry, f"{where}.table_optimizer")
        if not self.parts:
            raise UsageError(f"{where}: 'freeze' leaves no parameter to train")

    def _add(self, use: Use, groups: list[dict[str, Any]], registry: Registry, where: str) -> None:
        entry = registry.entry("optimizer", use.use)
        config = entry.parse(use.options, where=where)
        if not groups:
            return
        optimizer: torch.optim.Optimizer = entry.load()(groups, config)
        self.parts.append(optimizer)
        for name, schedule in _schedules(config):
            for group in optimizer.param_groups:
                if group.get(name) == peak(schedule):  # a group with a value of its own keeps it
                    self._scheduled.append((group, name, schedule))

    def step(self, clock: Clock) -> Tensor | None:
        """Clip, set scheduled options, update, drop gradients. Returns the gradient's norm before clipping, if there is a bound."""
        norm = None
        if self.clip is not None and self.clipped:
            norm = nn.utils.clip_grad_norm_(self.clipped, self.clip)
        for group, name, schedule in self._scheduled:
            group[name] = clock.value(schedule)
        for optimizer in self.parts:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return norm

    @property
    def lr(self) -> float:
        """Learning rate of the first group, for the log."""
        return float(self.parts[0].param_groups[0]["lr"])

    def state_bytes(self) -> int:
        """Bytes of the optimisers' state once it is all there; those that do not say (``state_bytes``) count as zero."""
        return sum(part.state_bytes() for part in self.parts if hasattr(part, "state_bytes"))

    def state_dict(self) -> list[dict[str, Any]]:
        """State of every optimiser."""
        return [optimizer.state_dict() for optimizer in self.parts]

    def load_state_dict(self, states: Sequence[dict[str, Any]]) -> None:
        """Take what ``state_dict`` returned."""
        places = [(part, i, name, schedule) for part, i, name, schedule in self._places()]
        for optimizer, state in zip(self.parts, states, strict=True):
            optimizer.load_state_dict(state)
        self._scheduled = [(part.param_groups[i], name, schedule) for part, i, name, schedule in places]

    def _places(self) -> Iterable[tuple[torch.optim.Optimizer, int, str, Schedule]]:
        """Scheduled options by place: loading a state replaces the dicts of the groups."""
        for group, name, schedule in self._scheduled:
            for part in self.parts:
                for i, own in enumerate(part.param_groups):
                    if own is group:
                        yield part, i, name, schedule


def trained(modules: dict[str, nn.Module], freeze: Sequence[str], *, where: str) -> dict[str, nn.Parameter]:
    """The parameters that are trained, by name, each once: all of the modules but those that a pattern of ``freeze`` names.

    Frozen ones get ``requires_grad = False``; gradients still pass through their modules.

    Raises:
        UsageError: a pattern names no parameter.
    """
    found: dict[str, nn.Parameter] = {}
    for prefix, module in modules.items():
        found |= {f"{prefix}{name}": parameter for name, parameter in module.named_parameters()}
    for pattern in freeze:
        if not any(fnmatchcase(name, pattern) for name in found):
            some = ", ".join(list(found)[:8])
            raise UsageError(f"{where}.freeze: '{pattern}' names no parameter{suggest(pattern, found)}; there are {some}, …")
    kept = {}
    for name, parameter in found.items():
        frozen = any(fnmatchcase(name, pattern) for pattern in freeze)
        parameter.requires_grad_(not frozen)
        if not frozen:
            kept[name] = parameter
    return kept


def wants_sparse(config: TrainConfig, registry: Registry) -> bool:
    """Whether the stage's tables should have sparse gradients."""
    use = config.table_optimizer
    return use is not None and bool(getattr(registry.entry("optimizer", use.use).load(), "sparse", False))


def _groups(parameters: list[nn.Parameter]) -> list[dict[str, Any]]:
    return [*_group([p for p in parameters if p.dim() >= 2], "matrix"), *_group([p for p in parameters if p.dim() < 2], "vector")]


def _group(parameters: list[nn.Parameter], kind: str) -> list[dict[str, Any]]:
    return [{"params": parameters, "kind": kind}] if parameters else []


def _schedules(config: Config) -> list[tuple[str, Schedule]]:
    return [(name, value) for name in type(config).model_fields if isinstance(value := getattr(config, name), Schedule)]
