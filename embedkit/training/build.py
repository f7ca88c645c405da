"""Build what a train stage names: losses, views, and which fields each stream must carry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from embedkit.config.model import LossUse, StreamConfig, TrainConfig, ViewUse
from embedkit.data.sampler import BatchSampler
from embedkit.errors import PluginError, UsageError, suggest
from embedkit.index.base import Index, IndexContext
from embedkit.registry import Registry
from embedkit.training.compute import autocast_type
from embedkit.training.loss import CATALOGUE, Loss, LossContext
from embedkit.training.step import WeightedLoss
from embedkit.views import Augmentation, AugmentationContext, Random, View

if TYPE_CHECKING:
    from embedkit.data.store import Store
    from embedkit.training.stages import StageContext

_AT_ONCE = 65_536


@dataclass(frozen=True)
class ViewMaker:
    """The augmentations of a stage, in order: (augmentation, what it is made of, what its views are called)."""

    parts: tuple[tuple[Augmentation, str, tuple[str, ...]], ...]

    def __call__(self, streams: Mapping[str, View], random: Random) -> dict[str, View]:
        """All views: the streams' own, and the augmented ones.

        Raises:
            PluginError: an augmentation made another number of views than ``makes`` names.
        """
        views = dict(streams)
        for augmentation, source, names in self.parts:
            made = augmentation.among(views[source], views, random)
            if len(made) != len(names):
                raise PluginError(f"{type(augmentation).__name__} made {len(made)} views, but 'makes' names {len(names)}")
            views.update(zip(names, made, strict=True))
        return views


def stream_of(config: TrainConfig) -> dict[str, str]:
    """View → the stream that it comes from; a stream comes from itself."""
    source = {name: name for name in config.streams}
    for view in config.views:
        source |= dict.fromkeys(view.makes, source[view.of])
    return source


def build_losses(config: TrainConfig, context: StageContext, *, where: str) -> list[WeightedLoss]:
    """The losses with their weights and prefixes; what they need is checked.

    Raises:
        UsageError: a loss needs a view, tower, network or label that is not there.
    """
    views = tuple(stream_of(config))
    model, store = context.model, context.store
    loss_context = LossContext(
        schema=context.plan.schema,
        tower_dims=model.dims,
        token_dim=context.plan.model.dim,
        views=views,
        frequencies=store.frequencies,
        rows={name: table.rows for name, table in store.tables.items()},
        index=lambda dim, metric: cast(Index, context.plan.index.create(IndexContext(dim, metric))),
        chances=lambda view: _chances(config.streams[stream_of(config)[view]], context),
        precision=autocast_type(context.plan.config.compute) or torch.float32,
        codecs=store.codecs,
        normalized={name: head.normalized for name, head in model.heads.items()},
    )
    found: list[WeightedLoss] = []
    names: set[str] = set()
    for i, use in enumerate(config.losses):
        at = f"{where}.losses.{i}"
        entry = context.host.registry.entry("loss", use.use)
        loss = cast(Loss, entry.create(entry.parse(use.options, where=at), context=loss_context))
        name = use.name or entry.name
        if name in names:
            raise UsageError(f"{at}.name: another loss is called '{name}' too; give one of them another name")
        names.add(name)
        _check_needs(loss, use, config, context, at)
        prefixes = common_prefixes(loss, model.prefixes)
        found.append(WeightedLoss(name, loss.to(context.device), use.weight, prefixes, _prefix_shares(loss, use, prefixes, at)))
    return found


def _chances(stream: StreamConfig, context: StageContext) -> Tensor | None:
    """The chance of each row of a stream's table in one draw of its sampler."""
    entry = context.host.registry.entry("sampler", stream.sampler)
    kind = cast(type[BatchSampler], entry.load())
    config = entry.parse(stream.options, where=f"streams.{stream.table}")
    found = kind.chances(config, context.store.frequencies(stream.table).numpy())
    return None if found is None else torch.from_numpy(found).float()


def _check_needs(loss: Loss, use: LossUse, config: TrainConfig, context: StageContext, at: str) -> None:
    source = stream_of(config)
    networks = ("student", *config.networks)
    for need in loss.needs.forwards:
        for kind, name, known in (
            ("view", need.view, (*source, CATALOGUE)),
            ("tower", need.tower, context.plan.schema.towers),
            ("network", need.network, networks),
        ):
            if name not in known:
                raise UsageError(f"{at}: loss '{use.use}' needs {kind} '{name}'{suggest(name, known)}; there are {', '.join(known)}")
    labels = {name for name, spec in context.plan.schema.fields.items() if spec.role in ("label", "group", "weight")}
    for label in loss.needs.labels:
        if label not in labels:
            there = ", ".join(sorted(labels)) or "none"
            raise UsageError(f"{at}: loss '{use.use}' needs label '{label}', which no field with role 'label' is; there are {there}")


def _prefix_shares(loss: Loss, use: LossUse, prefixes: tuple[int, ...], at: str) -> tuple[float, ...] | None:
    """The share of each nested width in the loss; None for all alike."""
    weights = use.prefix_weights
    if weights is None:
        return None
    if not loss.per_prefix or len(prefixes) < 2:
        raise UsageError(
            f"{at}.prefix_weights: the towers of '{use.use}' nest no widths that it learns; leave it out, or give them the head matryoshka"
        )
    whole = sum(weights)
    if len(weights) != len(prefixes) or not whole:
        raise UsageError(
            f"{at}.prefix_weights: found {weights}, but its towers nest the widths {', '.join(map(str, prefixes))}: "
            "give a number of at least 0 for each of them, not all zero"
        )
    return tuple(weight / whole for weight in weights)


def common_prefixes(loss: Loss, prefixes: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]:
    """The widths that all towers of a loss have in common, ascending."""
    towers = {need.tower for need in loss.needs.forwards if need.tower in prefixes}
    if not towers:
        return ()
    return tuple(sorted(set.intersection(*(set(prefixes[tower]) for tower in towers))))


def stream_fields(config: TrainConfig, losses: list[WeightedLoss], context: StageContext) -> dict[str, tuple[str, ...]]:
    """Stream → the fields that its batches must carry, in the schema's order.

    Raises:
        UsageError: no loss looks at a stream.
    """
    source = stream_of(config)
    wanted: dict[str, set[str]] = {name: set() for name in config.streams}
    schema = context.plan.schema
    for weighted in losses:
        for need in weighted.loss.needs.forwards:
            if need.view != CATALOGUE:
                wanted[source[need.view]] |= set(schema.towers[need.tower].fields)
        for label in weighted.loss.needs.labels:
            for name, stream in config.streams.items():
                if stream.table == schema.fields[label].table:
                    wanted[name].add(label)
    for name, fields in wanted.items():
        if not fields:
            raise UsageError(f"no loss looks at stream '{name}': take it out, or name it (or a view of it) in a loss")
    return {name: tuple(field for field in schema.fields if field in fields) for name, fields in wanted.items()}


def build_views(config: TrainConfig, fields: Mapping[str, tuple[str, ...]], context: StageContext, *, where: str) -> ViewMaker:
    """The augmentations of the stage."""
    source = stream_of(config)
    return ViewMaker(
        tuple(
            (
                _augmentation(view, config.streams[source[view.of]], fields[source[view.of]], context, f"{where}.views.{i}"),
                view.of,
                tuple(view.makes),
            )
            for i, view in enumerate(config.views)
        )
    )


def _augmentation(view: ViewUse, stream: StreamConfig, fields: tuple[str, ...], context: StageContext, where: str) -> Augmentation:
    registry: Registry = context.host.registry
    entry = registry.entry("augmentation", view.use)
    augmentation_context = AugmentationContext(
        schema=context.plan.schema,
        table=stream.table,
        fields=fields,
        makes=len(view.makes),
        mutual_information=lambda names: context.store.mutual_information(stream.table, list(names)),
    )
    return cast(Augmentation, entry.create(entry.parse(view.options, where=where), context=augmentation_context))


def stream_groups(config: TrainConfig, context: StageContext, *, where: str) -> dict[str, npt.NDArray[np.int64]]:
    """Stream → the group of each row of its table, int64 [M], for streams that name their groups. Rows that have none are -1.

    Raises:
        UsageError: the stage made no groups, or those of another table; or the field is out of reach.
    """
    found: dict[str, npt.NDArray[np.int64]] = {}
    for name, stream in config.streams.items():
        if stream.groups is not None:
            at = f"{where}.streams.{name}.groups"
            if stream.groups.stage is not None:
                found[name] = _groups_of_stage(stream.groups.stage, stream.table, context, at)
            else:
                found[name] = _groups_of_field(str(stream.groups.field), stream.table, context.store)
    return found


def _groups_of_stage(stage: str, table: str, context: StageContext, at: str) -> npt.NDArray[np.int64]:
    """As the stage's table ``clusters`` says, by row number; every train row must stand there."""
    import polars as pl

    path = context.tables.get(stage, {}).get("clusters")
    if path is None:
        there = ", ".join(name for name, tables in context.tables.items() if "clusters" in tables) or "none"
        raise UsageError(f"{at}: stage '{stage}' left no clusters; earlier stages that did: {there}")
    frame = pl.read_parquet(path)
    groups = np.full(context.store.tables[table].rows, -1, dtype=np.int64)
    rows = frame["row"].to_numpy()
    drawn = context.store.train_rows(table)
    if len(rows) and rows.max() < len(groups):
        groups[rows] = frame["group"].to_numpy()
    if (groups[drawn] < 0).any():
        raise UsageError(f"{at}: stage '{stage}' clustered the rows of another table than '{table}'; name a stage that clustered these")
    return groups


def _groups_of_field(field: str, table: str, store: Store) -> npt.NDArray[np.int64]:
    """The code of a category for each row, -1 where it is missing."""
    pieces = [np.zeros(0, np.int64)]
    for at in range(0, store.tables[table].rows, _AT_ONCE):
        rows = torch.arange(at, min(at + _AT_ONCE, store.tables[table].rows))
        column = store.batch({table: rows}, (field,)).columns[field]
        codes = column.values if column.present is None else column.values.masked_fill(~column.present, -1)
        pieces.append(codes.numpy().astype(np.int64))
    return np.concatenate(pieces)
