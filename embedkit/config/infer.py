"""Infer a run file from tables: which is which, who did what when, and what each column is.

Everything here is a guess that a person can read and change: the run file is written with the reasons beside it. Torch is not imported.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from embedkit.config.facts import TableFacts, look_at, words_of
from embedkit.config.fields import ColumnSummary, FieldOptions
from embedkit.errors import UsageError, suggest
from embedkit.registry import Registry

_USER = re.compile(
    r"user|customer|session|visitor|member|account|client|player|reader|viewer|listener|buyer|person|caller|patient", re.IGNORECASE
)
_ITEM = re.compile(
    r"item|product|movie|film|track|artist|song|article|stock|sku|asin|book|video|game|recipe|page|url|ad_?id", re.IGNORECASE
)
_TIME = re.compile(r"time|date|(^|_)ts$|_at$|when|day", re.IGNORECASE)
_POSITION = re.compile(r"position|order|sequence|(^|_)(seq|step|index|idx|rank)$", re.IGNORECASE)
_MATCH = 0.9
"""Share of a column's values that must be found among a table's ids."""
_CLASSES = 20
"""Whole numbers with at most so many values are classes when they are a label."""
_LEAST = 0.1
"""Below this score no field type takes a column."""


@dataclass
class Events:
    """What was made out about the event table."""

    table: TableFacts
    user: str
    item: str
    """Column of the items."""
    joins: dict[str, str]
    """Column → table."""
    time: str | None = None
    position: str | None = None
    repeats: float = 0.0
    """Share of events that repeat an earlier (user, item)."""
    where: str | None = None


@dataclass(frozen=True)
class Label:
    """A column that a probe predicts, and that no tower reads: its field type, and the probe's task."""

    column: str
    type: str
    task: str


@dataclass
class Guess:
    """A run file before it is written.

    Attributes:
        items: the table of items; with ``grouped``, derived from the event table.
        grouped: column → how its values become one, when there was no table of items.
        fields: table → column → field type.
        left: table → column → why it is no field.
        label: what a probe predicts, for a table that is learned from without labels.
    """

    items: TableFacts
    item_key: str | None
    events: Events | None = None
    users: TableFacts | None = None
    user_key: str | None = None
    grouped: dict[str, str] | None = None
    fields: dict[str, dict[str, str]] = field(default_factory=dict)
    left: dict[str, dict[str, str]] = field(default_factory=dict)
    label: Label | None = None


def infer(paths: Sequence[Path], registry: Registry) -> Guess:
    """Look at tables and guess what they are.

    Args:
        paths: Parquet or CSV files: one table of items; one of events; or items, events and perhaps users.
        registry: whose field types decide what columns are.

    Raises:
        DataError: a file is missing, empty or damaged.
        UsageError: nothing can be made of the tables, with what to do.
    """
    if not paths:
        raise UsageError("init: name one table at least: Parquet or CSV files")
    tables = [look_at(path, name) for path, name in zip(paths, _names(paths), strict=True)]
    guess = _single(tables[0]) if len(tables) == 1 else _related(tables)
    types = [(entry.name, entry.config_class()) for entry in registry.entries("field_type")]
    for table in filter(None, (guess.items, guess.users)):
        if guess.events is not None and table is guess.events.table:
            wanted: Sequence[str] = [guess.events.item, *(guess.grouped or {})]
        else:
            wanted = list(table.columns)
        keys = {guess.item_key if table is guess.items else guess.user_key}
        name = "items" if guess.grouped is not None and table is guess.items else table.name
        guess.fields[name], guess.left[name] = _fields(table, wanted, keys, types)
    if guess.grouped:
        guess.grouped = {column: how for column, how in guess.grouped.items() if column in guess.fields["items"]}
    return guess


def infer_rows(paths: Sequence[Path], registry: Registry, label: str | None = None) -> Guess:
    """Look at one table of rows to be learned from without labels: every column is a feature that a field type takes.

    Args:
        paths: one Parquet or CSV file.
        registry: whose field types decide what columns are.
        label: a column that a probe predicts afterwards.

    Raises:
        DataError: the file is missing, empty or damaged.
        UsageError: more than one table, no column to learn from, or no such label.
    """
    if len(paths) != 1:
        raise UsageError(
            f"init --ssl: learns from the rows of one table, found {len(paths)}; leave --ssl out for tables that belong together"
        )
    table = look_at(paths[0], _names(paths)[0])
    guess = Guess(table, table.key)
    if label is not None:
        guess.label = _label(table, label)
    types = [(entry.name, entry.config_class()) for entry in registry.entries("field_type")]
    wanted = [name for name in table.columns if name not in (table.key, label)]
    guess.fields[table.name], guess.left[table.name] = _fields(table, wanted, set(), types)
    if not guess.fields[table.name]:
        why = "; ".join(f"{column}: {reason}" for column, reason in guess.left[table.name].items()) or "it has a key only"
        raise UsageError(f"init --ssl: {table.path} has no column to learn from ({why})")
    return guess


def _label(table: TableFacts, name: str) -> Label:
    """Words, booleans and few whole numbers are classes, other numbers are predicted as numbers."""
    column = table.columns.get(name)
    if column is None:
        raise UsageError(
            f"init --label: {table.path} has no column '{name}'{suggest(name, table.columns)}; it has {', '.join(table.columns)}"
        )
    if column.unique < 2:
        raise UsageError(
            f"init --label: column '{name}' of {table.path} has one value only in {column.rows:,} rows, so nothing can be learned"
        )
    if column.dtype in ("string", "bool") or (column.dtype == "int" and column.unique <= _CLASSES):
        return Label(name, "category", "classification")
    if column.dtype in ("int", "float", "decimal"):
        return Label(name, "number", "regression")
    raise UsageError(f"init --label: column '{name}' of {table.path} holds {column.dtype}; a label is a category or a number")


def _names(paths: Sequence[Path]) -> list[str]:
    """Table names from file names, each once."""
    names: list[str] = []
    for path in paths:
        stem = path.name.split(".")[0] if path.name.split(".")[0].strip("*") else path.parent.name
        name = re.sub(r"\W+", "_", stem).strip("_") or "table"
        names.append(name if name not in names else f"{name}_{len(names) + 1}")
    return names


# ------------------------------------------------------------------ which table is which


def _single(table: TableFacts) -> Guess:
    """One table: of events when it names users and items that come again, else of items."""
    user, item = _by_name(table, _USER, ()), _by_name(table, _ITEM, ())
    if user is None or item is None or user == item or table.key in (user, item):
        return Guess(table, table.key)
    events = Events(table, user, item, {item: "items"})
    _finish(events)
    return Guess(table, item, events, grouped=_constant_columns(table, events))


def _by_name(table: TableFacts, pattern: re.Pattern[str], taken: Sequence[str]) -> str | None:
    """A column called like this whose values come again, those called an id first."""
    found = [
        name
        for name, column in table.columns.items()
        if name not in taken and column.dtype in ("int", "string") and pattern.search(name) and 1 < column.unique < 0.95 * column.rows
    ]
    named = [name for name in found if re.search(r"id$|code$|key$", name, re.IGNORECASE)]
    return next(iter(named or found), None)


def _related(tables: Sequence[TableFacts]) -> Guess:
    """Several tables: one of them holds ids of others."""
    found = [(table, joins) for table in tables if (joins := _joins(table, tables))]
    if not found:
        names = ", ".join(str(table.path) for table in tables)
        raise UsageError(
            f"init: none of {names} has a column whose values are the ids of another table; give one table of items, or a table of items "
            "with a unique column of ids and a table of events with those ids"
        )
    table, joins = max(found, key=lambda pair: (len(pair[1]), pair[0].rows))
    by_name = {one.name: one for one in tables}
    extra = [one.name for one in tables if one is not table and one.name not in joins.values()]
    if extra:
        raise UsageError(f"init: table '{extra[0]}' is joined by no column of '{table.name}'; leave it out")
    user_column = next((c for c, target in joins.items() if _USER.search(c) or _USER.search(target)), None)
    if user_column is None and len(joins) > 1:
        # Nothing is called a user: the side with fewer columns is the likelier one.
        user_column = min(joins, key=lambda c: len(by_name[joins[c]].columns))
    item_columns = [c for c in joins if c != user_column]
    if not item_columns:
        raise UsageError(f"init: '{table.name}' names users of '{joins[str(user_column)]}', but no items; give the table of items too")
    item = item_columns[0]
    user = user_column or _by_name(table, _USER, [item]) or _likely_user(table, item)
    events = Events(table, user, item, joins)
    _finish(events)
    items = by_name[joins[item]]
    users = by_name[joins[user_column]] if user_column else None
    return Guess(items, items.key, events, users, users.key if users else None)


def _joins(table: TableFacts, tables: Sequence[TableFacts]) -> dict[str, str]:
    """Column → table whose key holds its values; each table once, the likeliest column first."""
    found: list[tuple[float, str, str]] = []
    for other in tables:
        if other is table or other.key is None:
            continue
        for name, column in table.columns.items():
            score = _match(table, name, column, other)
            if score > 0:
                found.append((score, name, other.name))
    joins: dict[str, str] = {}
    for _, name, target in sorted(found, key=lambda f: (-f[0], f[1])):
        if name not in joins and target not in joins.values():
            joins[name] = target
    return joins


def _match(table: TableFacts, name: str, column: ColumnSummary, other: TableFacts) -> float:
    """How likely the column holds ids of the other table. Small whole numbers match anything, so they need a name that says so too."""
    from embedkit.data.table import lookup, plain

    key = other.columns[str(other.key)]
    if column.dtype not in ("int", "string") or key.dtype != column.dtype or column.unique < 2:
        return 0.0
    named = 1.0 if name.lower() == str(other.key).lower() else 0.0
    named = named or 0.5 * bool(words_of(name) & (words_of(str(other.key)) | words_of(other.name)))
    if column.dtype == "int" and not named:
        return 0.0
    sample = plain(next(table.table.scan([name], table.table.units[:1]))[1].column(0)).drop_null()
    share = float((lookup(sample, other.values(str(other.key))) >= 0).mean()) if len(sample) else 0.0
    return share + named if share >= _MATCH else 0.0


def _likely_user(table: TableFacts, item: str) -> str:
    """The column of users where none is called so: values that come again, the most different ones."""
    found = {
        name: column.unique
        for name, column in table.columns.items()
        if name != item and column.dtype in ("int", "string") and 1 < column.unique < 0.9 * column.rows and not _TIME.search(name)
    }
    if not found:
        raise UsageError(
            f"init: no column of '{table.name}' says whose event it is; write the run file by hand, or give the table of items only"
        )
    return max(found, key=lambda name: found[name])


def _constant_columns(table: TableFacts, events: Events) -> dict[str, str]:
    """Columns of a log that (almost) always have one value an item: they describe the item."""
    import polars as pl

    frame: Any = pl.from_arrow(next(table.table.scan(None, table.table.units[:1]))[1])
    kept = {}
    for name, column in table.columns.items():
        if (
            name in (events.user, events.item, events.time, events.position)
            or column.dtype not in ("int", "float", "string")
            or column.unique < 2
        ):
            continue
        pairs = frame.select(events.item, name).drop_nulls().group_by(events.item, name).len()
        most = (
            pairs.group_by(events.item).agg(pl.col("len").max().alias("most"), pl.col("len").sum().alias("all")).filter(pl.col("all") > 1)
        )
        share = most["most"].sum() / max(1, most["all"].sum())
        # A value that most rows have anyway says nothing about items, so agreement beyond it counts.
        usual = frame[name].drop_nulls().value_counts()["count"].max() / max(1, frame[name].count())
        if len(most) > 10 and share - usual >= 0.5 * (1 - usual):
            kept[name] = "mode" if column.dtype == "string" else "median"
    return kept


def _finish(events: Events) -> None:
    """Find the order of events, how often they repeat, and rows that name nobody or nothing."""
    import polars as pl

    table = events.table
    rest = {name: column for name, column in table.columns.items() if name not in (events.user, events.item)}
    dated = [name for name, column in rest.items() if column.dtype in ("date", "datetime")]
    frame: Any = pl.DataFrame({"user": pl.from_arrow(table.values(events.user)), "item": pl.from_arrow(table.values(events.item))})
    missing = [name for name, column in ((events.user, "user"), (events.item, "item")) if frame[column].null_count()]
    events.where = " AND ".join(f'"{name}" IS NOT NULL' for name in missing) or None
    if dated:
        events.time = next((name for name in dated if _TIME.search(name)), dated[0])
    else:
        for name, column in rest.items():
            if column.dtype == "int" and _POSITION.search(name) and column.nulls == 0 and _orders(frame, table, name):
                events.position = name
                break
    kept = frame.drop_nulls()
    events.repeats = 1 - kept.n_unique() / max(1, len(kept))


def _orders(frame: Any, table: TableFacts, column: str) -> bool:
    """Whether a column orders each user's events strictly, and not only the rows of the file."""
    import polars as pl

    ordered = frame.with_columns(order=pl.Series(table.values(column)))
    strict: bool = ordered.select("user", "order").n_unique() == len(ordered)
    starts: int = ordered.group_by("user").agg(pl.col("order").min())["order"].n_unique()
    # A column that runs through the whole file is its row number, which need not be a time.
    few: bool = starts < 0.5 * ordered["user"].n_unique() + 2
    return strict and few


# ------------------------------------------------------------------ what each column is


def _fields(
    table: TableFacts, wanted: Sequence[str], keys: set[str | None], types: Sequence[tuple[str, Any]]
) -> tuple[dict[str, str], dict[str, str]]:
    """Column → field type, and column → why not."""
    fields: dict[str, str] = {}
    left: dict[str, str] = {}
    for name in wanted:
        column = table.columns[name]
        scores = {kind: options.infer(column) for kind, options in types if issubclass(options, FieldOptions)}
        best = max(scores, key=lambda kind: scores[kind], default=None)
        if name in keys:
            fields[name] = "category"
        elif name.lower() == "split":
            left[name] = "it says which rows are for testing"
        elif column.unique < 2:
            left[name] = "it has one value only"
        elif best is None or scores[best] < _LEAST:
            left[name] = f"no field type takes {column.dtype}"
        elif best == "category" and column.unique > 0.9 * (column.rows - column.nulls):
            left[name] = "almost every row has another value"
        else:
            fields[name] = best
    return fields, left


def default_split(events: Events) -> dict[str, Any]:
    """The last tenth of the time for testing, the tenth before for validation; without times, each user's last events; without an
    order, a hash."""
    if events.time is not None:
        import pyarrow as pa
        import pyarrow.compute as pc

        times = events.table.values(events.time).cast(pa.timestamp("us"))
        bounds = pc.min_max(times).as_py()
        hours = (bounds["max"] - bounds["min"]).total_seconds() / 3600
        size = f"{round(hours / 240)}d" if hours >= 480 else f"{max(1, round(hours / 10))}h"
        if hours >= 10:
            return {"by": "time", "valid": size, "test": size}
    if events.position is not None or events.time is not None:
        return {"by": "position", "valid": 1, "test": 1}
    return {"by": "hash", "key": [events.user, events.item], "valid": 0.1, "test": 0.2}


def fields_by_name(guess: Guess) -> dict[str, Mapping[str, Any]]:
    """Field name → ``{"table", "column", "type", "domain"}``; a column's name, or table and column where two tables have one."""
    columns = [column for found in guess.fields.values() for column in found]
    named: dict[str, Mapping[str, Any]] = {}
    for table, found in guess.fields.items():
        for column, kind in found.items():
            clean = re.sub(r"\W+", "_", column).strip("_") or "field"
            name = f"{table}_{clean}" if columns.count(column) > 1 or clean in named or clean == "history" else clean
            named[name] = {"table": table, "column": column, "type": kind}
    return named
