"""What the embedding tables of a bundle cost, and how often values meet in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from embedkit.bundle import RUN, Bundle
from embedkit.config.model import TrainConfig, Use
from embedkit.errors import EmbedkitError
from embedkit.nn.tables import TableReport

if TYPE_CHECKING:
    from torch import nn

    from embedkit.registry import Registry


@dataclass(frozen=True)
class EncoderTables:
    """The tables of one encoder of a model.

    Attributes:
        encoder: name in the model.
        report: what the encoder says of them.
        optimizer: registered name of the optimiser that trained them last; None where none did.
        optimizer_bytes: what it keeps for them while training; None where its plugin is not here, or does not say.
    """

    encoder: str
    report: TableReport
    optimizer: str | None
    optimizer_bytes: int | None


def table_reports(bundle: Bundle, registry: Registry) -> list[EncoderTables]:
    """One entry for each encoder of a bundle that has tables and reports on them."""
    stages = list(_train_stages(bundle, registry))
    names = {id(parameter): name for name, parameter in bundle.model.named_parameters()}
    found = []
    for name, encoder in bundle.model.encoders.items():
        report = encoder.table_report()
        if report is not None:
            tables = list(encoder.tables())
            found.append(EncoderTables(name, report, *_optimizer(stages, tables, [names[id(t)] for t in tables], registry)))
    return found


def _train_stages(bundle: Bundle, registry: Registry) -> Iterator[TrainConfig]:
    """The train stages of the run file that the bundle carries, last first; those of plugins that are not here are passed over."""
    from embedkit.config.load import parse_run, read_toml

    path = bundle.path / RUN
    data = read_toml(path)
    data.pop("resolved", None)
    for use in reversed(parse_run(data, where=str(path)).stages):
        try:
            config = registry.entry("stage", use.use).parse(use.options, where=str(path))
        except EmbedkitError:
            continue
        if isinstance(config, TrainConfig):
            yield config


def _optimizer(
    stages: Sequence[TrainConfig], tables: Sequence[nn.Parameter], names: Sequence[str], registry: Registry
) -> tuple[str | None, int | None]:
    """Name and bytes of the optimiser of the last stage that trained the tables."""
    for config in stages:
        kept = [
            table for table, name in zip(tables, names, strict=True) if not any(fnmatchcase(name, pattern) for pattern in config.freeze)
        ]
        if kept:
            use = config.table_optimizer or config.optimizer
            return use.use, _state_bytes(use, kept, registry)
    return None, 0


def _state_bytes(use: Use, tables: Sequence[nn.Parameter], registry: Registry) -> int | None:
    """What an optimiser says it keeps for these tables alone."""
    try:
        entry = registry.entry("optimizer", use.use)
    except EmbedkitError:
        return None
    optimizer = entry.load()([{"params": list(tables), "kind": "table"}], entry.parse(use.options, where=use.use))
    return int(optimizer.state_bytes()) if hasattr(optimizer, "state_bytes") else None
