"""Resolve a run file: every name to a registry entry, every default filled in, everything checked that can be without torch or data.

The resolved file (``run.resolved.toml``) is a run file whose every option is written out, plus a table ``[resolved]`` that says with
which versions and from which folder. Resume, compare and bundles read only that, so an upgrade never changes what an old run means.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from embedkit._version import __version__
from embedkit.component import Config
from embedkit.config.fields import FieldOptions
from embedkit.config.load import parse_run, read_toml
from embedkit.config.messages import Problems, problems
from embedkit.config.model import EncoderUse, FieldConfig, RunConfig, Use
from embedkit.config.plan import EncoderPart, ModelSpec, Part, Plan
from embedkit.config.relations import Versions, build_schema, check_tables, parse_fields
from embedkit.config.stages import Resolver, stage_part, written
from embedkit.errors import PluginError, UsageError, suggest
from embedkit.registry import Registry
from embedkit.schema import Schema


class PluginVersion(Config):
    """What a plugin came in when the run was resolved."""

    distribution: str | None = None
    """Name of the distribution; none for a one-file plugin."""
    version: str | None = None
    """Its version."""


class Resolved(Config):
    """The ``[resolved]`` table of a resolved run file."""

    embedkit: str
    """Version of embedkit that resolved it."""
    base: str
    """Folder that relative paths in the file start from."""
    plugins: dict[str, PluginVersion] = {}
    """Plugin → what it came in."""


def resolve(config: RunConfig, registry: Registry, *, base: Path, where: str = "run file", versions: Versions | None = None) -> Plan:
    """Resolve a run file.

    Args:
        config: what was written.
        registry: the components there are.
        base: folder that relative paths in the run file start from.
        where: what messages call the file.
        versions: plugin → ``{"distribution": …, "version": …}`` as an earlier resolve recorded them, for messages about missing plugins.

    Raises:
        UsageError: a line for everything that is wrong.
        PluginError: a plugin that is needed is missing or broken.
    """
    found = Problems(where)
    check_tables(config, found)
    specs, field_types = parse_fields(config, registry, found, versions or {})
    schema = build_schema(config, specs, found)
    resolver = Resolver(config, schema, registry, found, versions or {})
    encoders = _encoders(resolver, field_types)
    trunks = _per_tower(resolver, "trunk", config.model.trunk, config.model.trunks)
    shared = _shared_trunks(resolver)
    trunks |= {tower: trunks[owner] for tower, owner in shared.items() if owner in trunks}
    heads = _per_tower(resolver, "head", config.model.head, config.model.heads)
    stages = _stages(resolver)
    evaluators = [resolver.part("evaluator", use.use, use.options, f"evaluate.{i}") for i, use in enumerate(config.evaluate)]
    index = resolver.part("index", config.index.use, config.index.options, "index")
    found.raise_any()
    assert index is not None
    model = ModelSpec(schema, field_types, config.model.dim, tuple(encoders), trunks, heads, config.seed, shared)
    parts = [part for part in evaluators if part is not None]
    filled = _filled(config, model, stages, parts, index)
    return Plan(filled, Path(base), model, tuple(stages), tuple(parts), index, registry)


def _encoders(resolver: Resolver, field_types: Mapping[str, Part]) -> list[EncoderPart]:
    """The encoders written down, then one default encoder for all fields whose types share it.

    A field that no tower reads needs no encoder; an encoder that is left without fields is dropped.
    """
    config, found, schema = resolver.config, resolver.problems, resolver.schema
    read = list(dict.fromkeys(field for tower in config.towers.values() for field in tower))
    server: dict[str, int] = {}
    parts: list[EncoderPart] = []
    for i, use in enumerate(config.model.encoders):
        at = f"model.encoders.{i}"
        for field in use.fields:
            if field not in config.fields:
                found.add(f"{at}.fields", f"there is no field '{field}'{suggest(field, config.fields)}")
            elif field in server:
                found.add(f"{at}.fields", f"field '{field}' is served by encoder {server[field]} already; a field is served by one encoder")
            server.setdefault(field, i)
        part = resolver.part("encoder", use.use, use.options, at, beside=EncoderUse.model_fields)
        fields = tuple(field for field in use.fields if field in read)
        if part is not None and fields:
            _check_accepts(part, fields, schema, at, resolver)
            parts.append(EncoderPart(part.entry, part.config, fields))
    defaults: dict[str, list[str]] = {}
    for field in read:
        if field in field_types and field not in server:
            options = field_types[field].config
            assert isinstance(options, FieldOptions)
            defaults.setdefault(options.default_encoder, []).append(field)
    for name, fields_left in defaults.items():
        part = resolver.part("encoder", name, {}, f"fields.{fields_left[0]}: default encoder")
        if part is not None:
            parts.append(EncoderPart(part.entry, part.config, tuple(fields_left)))
    _check_domains(parts, schema, resolver)
    return parts


def _check_accepts(part: Part, fields: Sequence[str], schema: Schema, at: str, resolver: Resolver) -> None:
    """Options may say which field types the encoder takes; an encoder whose options do not is checked when the model is built."""
    accepts = getattr(type(part.config), "accepts", None)
    for field in fields:
        spec = schema.fields.get(field)
        if accepts is not None and spec is not None and spec.type not in accepts:
            kinds = ", ".join(sorted(accepts))
            resolver.problems.add(
                f"{at}.fields", f"encoder '{part.entry.name}' takes fields of type {kinds}; '{field}' is of type {spec.type}"
            )


def _check_domains(parts: Sequence[EncoderPart], schema: Schema, resolver: Resolver) -> None:
    """Fields of one domain share table rows, so one encoder must serve them all, but for those that read a tower's vectors instead."""
    server: dict[str, tuple[str, EncoderPart]] = {}
    for part in parts:
        if getattr(type(part.config), "reads_tower", False):
            continue
        for field in part.fields:
            if field not in schema.fields:
                continue
            domain = schema.fields[field].domain
            first, other = server.setdefault(domain, (field, part))
            if other is not part:
                resolver.problems.add(
                    "model.encoders",
                    f"fields '{first}' and '{field}' share domain '{domain}', but encoders '{other.entry.name}' and '{part.entry.name}' "
                    "serve them; put both into one encoder",
                )


def _per_tower(resolver: Resolver, kind: Literal["trunk", "head"], default: Use, own: Mapping[str, Use]) -> dict[str, Part]:
    """Tower → trunk or head."""
    config, parts = resolver.config, {}
    for tower in own:
        if tower not in config.towers:
            resolver.problems.add(f"model.{kind}s.{tower}", f"there is no tower '{tower}'{suggest(tower, config.towers)}")
    for tower in config.towers:
        use = own.get(tower, default)
        at = f"model.{kind}s.{tower}" if tower in own else f"model.{kind}"
        part = resolver.part(kind, use.use, use.options, at)
        if part is not None:
            parts[tower] = part
    return parts


def _shared_trunks(resolver: Resolver) -> dict[str, str]:
    """Tower → the tower whose trunk it uses."""
    towers, own = resolver.config.towers, resolver.config.model.trunks
    shared = resolver.config.model.shared_trunks
    for tower, owner in shared.items():
        at = f"model.shared_trunks.{tower}"
        unknown = next((name for name in (tower, owner) if name not in towers), None)
        if unknown is not None:
            resolver.problems.add(at, f"there is no tower '{unknown}'{suggest(unknown, towers)}")
        elif owner == tower or owner in shared:
            resolver.problems.add(at, f"tower '{owner}' has no trunk of its own to share; name a tower that has")
        elif tower in own:
            resolver.problems.add(at, f"tower '{tower}' has a trunk of its own in model.trunks; leave one of the two out")
        else:
            beyond = [field for field in towers[tower] if field not in towers[owner]]
            if beyond:
                resolver.problems.add(
                    at, f"field '{beyond[0]}' is none of tower '{owner}', whose trunk does not know it; add it there, too"
                )
    return dict(shared)


def _stages(resolver: Resolver) -> list[Part]:
    parts: list[Part] = []
    names: dict[str, int] = {}
    for i, use in enumerate(resolver.config.stages):
        part = stage_part(resolver, use, f"stages.{i}")
        if part is None:
            continue
        if "name" in type(part.config).model_fields and getattr(part.config, "name") is None:  # noqa: B009 - a stage of a plugin may have no name
            part = Part(part.entry, part.config.model_copy(update={"name": str(i)}))
        name = getattr(part.config, "name", str(i))
        if name in names:
            resolver.problems.add(f"stages.{i}.name", f"stage {names[name]} is called '{name}' too; names of stages are unique")
        names.setdefault(name, i)
        parts.append(part)
    return parts


def _filled(config: RunConfig, model: ModelSpec, stages: Sequence[Part], evaluators: Sequence[Part], index: Part) -> RunConfig:
    """The run file with every default and qualified name."""
    fields = {}
    for name, field in config.fields.items():
        part, spec = model.field_types[name], model.schema.fields[name]
        fields[name] = FieldConfig(
            type=part.entry.qualified, table=field.table, column=spec.column, domain=spec.domain, role=field.role, **written(part)
        )
    encoders = [EncoderUse(use=p.entry.qualified, fields=list(p.fields), **written(p)) for p in model.encoders]
    update: dict[str, Any] = {
        "encoders": encoders,
        "trunks": {tower: _use(part) for tower, part in model.trunks.items() if tower not in model.shared_trunks},
        "heads": {tower: _use(part) for tower, part in model.heads.items()},
    }
    # The defaults for towers without an own entry now serve none; keeping them would name a component the run does not use.
    first = next(iter(config.towers))
    update |= {"trunk": _use(model.trunks[first]), "head": _use(model.heads[first])}
    return config.model_copy(
        update={
            "fields": fields,
            "model": config.model.model_copy(update=update),
            "stages": [_use(part) for part in stages],
            "evaluate": [_use(part) for part in evaluators],
            "index": _use(index),
        }
    )


def _use(part: Part) -> Use:
    options = written(part)
    options.pop("use", None)
    return Use(use=part.entry.qualified, **options)


def dump_resolved(plan: Plan) -> str:
    """The resolved run file as TOML; ``load_resolved`` turns it back."""
    import tomli_w

    data = plan.config.model_dump(mode="json", by_alias=True)
    owners = {part.entry.owner for part in _parts(plan)}
    data["resolved"] = Resolved(
        embedkit=__version__,
        base=str(plan.base.resolve()),
        plugins={o.plugin: PluginVersion(distribution=o.distribution, version=o.version) for o in sorted(owners, key=lambda o: o.plugin)},
    ).model_dump(mode="json")
    return "# Written by embedkit: the run file with every default. Resume, compare and bundles read this.\n" + tomli_w.dumps(
        without_none(data)
    )


def write_resolved(plan: Plan, path: Path) -> None:
    """Write ``dump_resolved`` beside and rename."""
    from embedkit.files import atomic_write

    atomic_write(path, dump_resolved(plan))


def load_resolved(path: Path, registry: Registry) -> Plan:
    """Read a resolved run file.

    Raises:
        UsageError: the file is missing, damaged, or not a resolved one.
        PluginError: a plugin it needs is not here: ``needs loss acme:x from acme-embeds 0.3``.
    """
    data = read_toml(Path(path))
    if "resolved" not in data:
        raise UsageError(f"{path}: has no table [resolved], so it is no resolved run file")
    try:
        resolved = Resolved.model_validate(data.pop("resolved"))
    except ValidationError as error:
        raise UsageError("\n".join(problems(error, Resolved, where=f"{path}: resolved"))) from None
    versions = {name: plugin.model_dump() for name, plugin in resolved.plugins.items()}
    try:
        return resolve(parse_run(data, where=str(path)), registry, base=Path(resolved.base), where=str(path), versions=versions)
    except PluginError as error:
        raise PluginError(f"{path}: {error}") from error


def _parts(plan: Plan) -> list[Part]:
    """Every part a plan names at its top level, and by their qualified names those inside train stages."""
    model = plan.model
    parts = [*model.field_types.values(), *model.encoders, *model.trunks.values(), *model.heads.values()]
    return [*parts, *plan.stages, *plan.evaluators, plan.index]


def without_none(value: Any) -> Any:
    """TOML has no null: a key without a value is left out, which reads as None again."""
    if isinstance(value, Mapping):
        return {key: without_none(one) for key, one in value.items() if one is not None}
    if isinstance(value, list):
        return [without_none(one) for one in value]
    return value
