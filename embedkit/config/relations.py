"""Checks of tables and fields, and the Schema they make. No data is read here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from embedkit.config.messages import Problems, keys_of, short
from embedkit.config.model import FieldConfig, RunConfig, SplitConfig, TableConfig
from embedkit.config.plan import Part
from embedkit.errors import UsageError, suggest
from embedkit.registry import Entry, Registry
from embedkit.schema import FieldSpec, Role, Schema, Tower

_DURATION = re.compile(r"^\d+(\.\d+)?(s|m|h|d|w)$")


def check_tables(config: RunConfig, problems: Problems) -> None:
    """Joins have targets with keys, events have users, splits have what they split by."""
    for name, table in config.tables.items():
        at = f"tables.{name}"
        for column, target in table.join.items():
            if target not in config.tables:
                problems.add(f"{at}.join.{column}", f"there is no table '{target}'{suggest(target, config.tables)}")
            elif key_of(config.tables[target]) is None:
                problems.add(f"{at}.join.{column}", f"table '{target}' has no key; give tables.{target}.key the column of its ids")
        if table.join and table.user is None:
            problems.add(at, "only an event table joins others; name the column of its users as user")
        if table.position is not None and table.user is None:
            problems.add(f"{at}.position", "orders a user's events; name the column of the users as user")
        if table.group is not None and table.key not in (None, table.group.by):
            problems.add(f"{at}.key", f"the key of a grouped table is the column it is grouped by, '{table.group.by}'; leave key out")
        if table.split is not None:
            _check_split(table, table.split, f"{at}.split", problems)


def _check_split(table: TableConfig, split: SplitConfig, at: str, problems: Problems) -> None:
    sizes = {"valid": split.valid, "test": split.test}
    if split.by == "time":
        if table.time is None:
            problems.add(at, "a split by time needs the column of the times as time; without one, split by hash")
        for which, size in sizes.items():
            if size != 0 and not (isinstance(size, str) and _DURATION.match(size)):
                problems.add(f"{at}.{which}", f"found {short(size)}, wanted a duration such as '7d', '12h' or '90m'")
    elif split.by == "position":
        if table.user is None or (table.time is None and table.position is None):
            problems.add(at, "a split by position needs user, and time or position; without an order, split by hash")
        for which, size in sizes.items():
            if isinstance(size, str) or size < 0 or size != int(size):
                problems.add(f"{at}.{which}", f"found {short(size)}, wanted a number of events for each user, such as 1")
    elif split.by == "hash":
        if not split.key:
            problems.add(f"{at}.key", "a split by hash needs the columns to hash, such as key = ['user_id', 'item_id']")
        for which, size in sizes.items():
            if isinstance(size, str) or not 0 <= size < 1:
                problems.add(f"{at}.{which}", f"found {short(size)}, wanted a share of the rows such as 0.1")
        shares = [size for size in sizes.values() if not isinstance(size, str)]
        if sum(shares) >= 1:
            problems.add(at, f"valid and test are {sum(shares):g} of the rows together, so none is left for training")
    else:
        if split.column is None:
            problems.add(f"{at}.column", "a split by column needs the name of the column")
        for which, size in sizes.items():
            if size != 0 and not isinstance(size, str):
                problems.add(f"{at}.{which}", f"found {short(size)}, wanted the value of column '{split.column}' that means {which}")


def key_of(table: TableConfig) -> str | None:
    """The column of a table's ids."""
    return table.group.by if table.group is not None else table.key


Versions = Mapping[str, Mapping[str, Any]]
"""Plugin → ``{"distribution": …, "version": …}``, as a resolved file recorded it."""


def find_entry(registry: Registry, kind: str, use: str, versions: Versions) -> Entry:
    """The entry of a name; a recorded plugin that is not here is told with its distribution and version."""
    recorded = versions.get(use.partition(":")[0], {})
    return registry.entry(kind, use, distribution=recorded.get("distribution"), version=recorded.get("version"))


def parse_fields(
    config: RunConfig, registry: Registry, problems: Problems, versions: Versions
) -> tuple[dict[str, FieldSpec], dict[str, Part]]:
    """Each field's specification and its codec's part; fields that are wrong are left out and told in ``problems``."""
    specs: dict[str, FieldSpec] = {}
    parts: dict[str, Part] = {}
    for name, field in config.fields.items():
        at = f"fields.{name}"
        if field.table not in config.tables:
            problems.add(f"{at}.table", f"there is no table '{field.table}'{suggest(field.table, config.tables)}")
            continue
        try:
            entry = find_entry(registry, "field_type", field.type, versions)
        except UsageError as error:
            problems.add(f"{at}.type", str(error))
            continue
        known = keys_of(entry.config_class())
        unknown = [key for key in field.options if key not in known]
        for key in unknown:
            hint = suggest(key, [*known, *(k for k in FieldConfig.model_fields if k not in ("type", "table"))])
            problems.add(f"{at}.{key}", f"unknown option '{key}' of field type '{entry.name}'{hint}")
        if unknown:
            continue
        try:
            parts[name] = Part(entry, entry.parse(field.options, where=f"{problems.where}: {at}"))
        except UsageError as error:
            problems.extend(error)
            continue
        specs[name] = _spec(name, field, config.tables[field.table], parts[name])
        if specs[name].column is None:
            _check_history(specs[name], config, problems)
    return specs, parts


def _spec(name: str, field: FieldConfig, table: TableConfig, part: Part) -> FieldSpec:
    history = part.entry.name == "sequence" and table.user is not None and field.column is None
    column = None if history else field.column or name
    role: Role = field.role
    if role == "feature" and column is not None:
        role = "key" if column == key_of(table) else "time" if column == table.time else role
    return FieldSpec(
        name=name,
        type=part.entry.name,
        table=field.table,
        column=column,
        domain=field.domain or name,
        role=role,
        options=part.config.model_dump(mode="json", by_alias=True),
    )


def _check_history(spec: FieldSpec, config: RunConfig, problems: Problems) -> None:
    """A history lists ids of a joined table: some key field there has its domain."""
    joined = config.tables[spec.table].join.values()
    domains = {}
    for name, field in config.fields.items():
        if field.table in joined and field.table in config.tables and (field.column or name) == key_of(config.tables[field.table]):
            domains[field.domain or name] = name
    if spec.domain not in domains:
        keys = ", ".join(f"'{key_of(config.tables[name])}' of '{name}'" for name in joined if name in config.tables)
        have = f"; set domain = '{next(iter(domains))}'" if domains else f"; no field reads the key {keys}: correct the key, or add a field"
        problems.add(
            f"fields.{spec.name}.domain",
            f"a history lists ids of a table that '{spec.table}' joins, none of whose keys has domain '{spec.domain}'{have}",
        )


def build_schema(config: RunConfig, specs: Mapping[str, FieldSpec], problems: Problems) -> Schema:
    """Towers on top of fields; towers that are wrong are left out and told in ``problems``."""
    towers = {}
    for name, fields in config.towers.items():
        at = f"towers.{name}"
        if not fields:
            problems.add(at, "has no fields; list the fields it reads")
            continue
        for field in fields:
            if field not in config.fields:
                problems.add(at, f"there is no field '{field}'{suggest(field, config.fields)}")
            elif fields.count(field) > 1:
                problems.add(at, f"lists field '{field}' twice")
            elif field in specs and specs[field].role in ("label", "weight"):
                problems.add(at, f"field '{field}' is a {specs[field].role}, which a tower must not see; leave it out or make it a feature")
        if all(field in specs for field in fields):
            table = _tower_table([specs[field] for field in fields], config, at, problems)
            if table is not None:
                towers[name] = Tower(name, tuple(fields), table)
    keys = {name: key for name, table in config.tables.items() if (key := key_of(table)) is not None}
    return Schema(dict(specs), towers, keys)


def _tower_table(specs: list[FieldSpec], config: RunConfig, at: str, problems: Problems) -> str | None:
    """The event table when a field is read from one (fields of the tables it joins are reached), else the one table of the fields."""
    tables = list(dict.fromkeys(spec.table for spec in specs))
    events = [table for table in tables if config.tables[table].user is not None]
    if len(events) > 1 or (not events and len(tables) > 1):
        problems.add(
            at, f"reads the tables {', '.join(tables)}; the fields of a tower stand in one table, or in one event table and tables it joins"
        )
        return None
    table = events[0] if events else tables[0]
    beyond = [spec for spec in specs if spec.table not in (table, *config.tables[table].join.values())]
    for spec in beyond:
        problems.add(at, f"field '{spec.name}' is read from table '{spec.table}', which event table '{table}' does not join")
    return None if beyond else table
