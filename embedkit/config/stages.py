"""Resolve what a stage names: streams and samplers, views, losses, optimisers, networks."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel

from embedkit.config.messages import Problems
from embedkit.config.model import LossUse, NetworkConfig, RunConfig, StreamConfig, TrainConfig, Use, ViewUse
from embedkit.config.plan import Part
from embedkit.config.references import references
from embedkit.config.relations import Versions, find_entry
from embedkit.errors import UsageError, suggest
from embedkit.registry import Registry
from embedkit.schema import Schema

U = TypeVar("U", bound=BaseModel)


class Resolver:
    """Parses components of one run file; what is wrong goes to ``problems`` and the answer is then None."""

    def __init__(self, config: RunConfig, schema: Schema, registry: Registry, problems: Problems, versions: Versions) -> None:
        self.config = config
        self.schema = schema
        self.registry = registry
        self.problems = problems
        self.versions = versions

    def part(
        self, kind: str, use: str, options: Mapping[str, Any], at: str, *, views: Collection[str] = (), beside: Collection[str] = ()
    ) -> Part | None:
        """The part of a registered name with its options, names in them checked.

        Args:
            kind: kind of component.
            use: bare or qualified name.
            options: as written.
            at: key path.
            views: streams and views that the options may name.
            beside: keys that may stand beside the options, for suggestions.
        """
        try:
            entry = find_entry(self.registry, kind, use, self.versions)
        except UsageError as error:
            self.problems.add(f"{at}.use" if kind != "sampler" else f"{at}.sampler", str(error))
            return None
        try:
            config = entry.parse(options, where=f"{self.problems.where}: {at}")
        except UsageError as error:
            near = [key for key in options if key not in entry.config_class().model_fields and suggest(key, beside)]
            for key in near:
                self.problems.add(f"{at}.{key}", f"unknown key '{key}'{suggest(key, beside)}")
            if not near:
                self.problems.extend(error)
            return None
        self.check_names(config, at, views)
        return Part(entry, config)

    def check_names(self, config: BaseModel, at: str, views: Collection[str] = ()) -> None:
        """Options that name towers, fields, tables or views name ones that are there."""
        known: dict[str, Collection[str]] = {
            "tower": self.config.towers,
            "field": self.config.fields,
            "table": self.config.tables,
            "view": views,
        }
        for option, kind, name in references(config):
            if name not in known[kind]:
                there = f"; there are {', '.join(known[kind])}" if known[kind] else ""
                self.problems.add(f"{at}.{option}", f"there is no {kind} '{name}'{suggest(name, known[kind]) or there}")


def stage_part(resolver: Resolver, use: Use, at: str) -> Part | None:
    """A stage; the components inside a ``TrainConfig`` (or a class derived from it) are resolved too, with defaults and qualified names."""
    part = resolver.part("stage", use.use, use.options, at)
    if part is None or not isinstance(part.config, TrainConfig):
        return part
    config = part.config
    streams = {name: _stream(resolver, stream, f"{at}.streams.{name}") for name, stream in config.streams.items()}
    names = list(config.streams)
    views = []
    for i, view in enumerate(config.views):
        views.append(_view(resolver, view, names, f"{at}.views.{i}"))
        names.extend(view.makes)
    losses = _losses(resolver, config, names, at)
    optimizer = _use(resolver, "optimizer", config.optimizer, f"{at}.optimizer")
    tables = config.table_optimizer and _use(resolver, "optimizer", config.table_optimizer, f"{at}.table_optimizer")
    _check_networks(resolver, config.networks, f"{at}.networks")
    filled = config.model_copy(
        update={"streams": streams, "views": views, "losses": losses, "optimizer": optimizer, "table_optimizer": tables}
    )
    return Part(part.entry, filled)


def written(part: Part) -> dict[str, Any]:
    """A part's options as they would be written with every default."""
    return part.config.model_dump(mode="json", by_alias=True)


def _use(resolver: Resolver, kind: str, use: Use, at: str) -> Use:
    part = resolver.part(kind, use.use, use.options, at)
    return use if part is None else Use(use=part.entry.qualified, **written(part))


def _stream(resolver: Resolver, stream: StreamConfig, at: str) -> StreamConfig:
    tables, problems = resolver.config.tables, resolver.problems
    table = tables.get(stream.table)
    if table is None:
        problems.add(f"{at}.table", f"there is no table '{stream.table}'{suggest(stream.table, tables)}")
    elif stream.rows != "rows" and table.user is None:
        problems.add(f"{at}.rows", f"'{stream.rows}' needs an event table, and '{stream.table}' names no user")
    elif stream.rows in ("windows", "sequences"):
        if table.time is None and table.position is None:
            problems.add(
                f"{at}.rows", f"windows need events in order; name a time or position column of '{stream.table}', or use rows = 'events'"
            )
        if not any(spec.table == stream.table and spec.column is None for spec in resolver.schema.fields.values()):
            problems.add(f"{at}.rows", f"windows need a history; add a sequence field to table '{stream.table}'")
    _check_groups(resolver, stream, at)
    part = resolver.part("sampler", stream.sampler, stream.options, at, beside=StreamConfig.model_fields)
    if part is None:
        return stream
    return StreamConfig(
        table=stream.table, rows=stream.rows, sampler=part.entry.qualified, size=stream.size, groups=stream.groups, **written(part)
    )


def _check_groups(resolver: Resolver, stream: StreamConfig, at: str) -> None:
    """The stage that a stream's groups come from is an earlier one, the field is a category, and rows are no users."""
    groups, problems = stream.groups, resolver.problems
    if groups is None:
        return
    if stream.rows == "windows":
        problems.add(f"{at}.groups", "windows draw users, which have no groups; draw rows or events")
    if groups.field is not None:
        spec = resolver.schema.fields.get(groups.field)
        if spec is None:
            problems.add(f"{at}.groups.field", f"there is no field '{groups.field}'{suggest(groups.field, resolver.schema.fields)}")
        elif spec.type != "category":
            problems.add(f"{at}.groups.field", f"field '{groups.field}' is of type {spec.type}; a group is one category a row")
    else:
        earlier = resolver.config.stages[: int(at.split(".")[1])]
        names = [str(use.options.get("name") or i) for i, use in enumerate(earlier)]
        if groups.stage not in names:
            there = f"; those before it are {', '.join(names)}" if names else "; it is the first one"
            problems.add(f"{at}.groups.stage", f"there is no earlier stage '{groups.stage}'{suggest(str(groups.stage), names) or there}")


def _view(resolver: Resolver, view: ViewUse, names: list[str], at: str) -> ViewUse:
    if view.of not in names:
        resolver.problems.add(
            f"{at}.of", f"there is no stream or earlier view '{view.of}'{suggest(view.of, names)}; there are {', '.join(names)}"
        )
    for made in view.makes:
        if made in names or view.makes.count(made) > 1:
            resolver.problems.add(f"{at}.makes", f"'{made}' names a stream or another view already; names are unique in a stage")
    part = resolver.part("augmentation", view.use, view.options, at, views=names, beside=ViewUse.model_fields)
    if part is None:
        return view
    return ViewUse(use=part.entry.qualified, of=view.of, makes=view.makes, **written(part))


def _losses(resolver: Resolver, config: TrainConfig, views: list[str], at: str) -> list[LossUse]:
    losses: list[LossUse] = []
    taken: dict[str, int] = {}
    for i, loss in enumerate(config.losses):
        part = resolver.part("loss", loss.use, loss.options, f"{at}.losses.{i}", views=views, beside=LossUse.model_fields)
        name = loss.name or (part.entry.name if part else loss.use)
        if name in taken:
            resolver.problems.add(f"{at}.losses.{i}.name", f"loss {taken[name]} is called '{name}' too; give one of them another name")
        taken.setdefault(name, i)
        beside = {key: getattr(loss, key) for key in LossUse.model_fields} | {"name": name}
        losses.append(loss if part is None else LossUse(**beside | {"use": part.entry.qualified}, **written(part)))
    return losses


def _check_networks(resolver: Resolver, networks: Mapping[str, NetworkConfig], at: str) -> None:
    for name, network in networks.items():
        if name == "student":
            resolver.problems.add(f"{at}.{name}", "'student' is the network that is trained; call the other one something else")
        if (network.kind == "frozen") != (network.bundle is not None):
            resolver.problems.add(f"{at}.{name}.bundle", "a frozen network needs the folder of its bundle, and only a frozen one has it")
