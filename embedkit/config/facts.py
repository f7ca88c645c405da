"""What the columns of a table look like: the facts that ``embedkit init`` decides by. Arrow is imported when a table is read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedkit.config.fields import ColumnSummary
from embedkit.config.model import TableConfig

if TYPE_CHECKING:
    import pyarrow as pa

    from embedkit.data.table import Table

SAMPLE = 20_000
"""Rows that field types are inferred from."""
SHOWN = 200
"""Values of a sample that a field type may look at one by one."""


@dataclass(frozen=True)
class TableFacts:
    """A table that was looked at.

    Attributes:
        name: what the run file will call it.
        path: its file.
        rows: number of rows.
        columns: column → summary of the first ``SAMPLE`` rows.
        key: the column that is unique and never missing in the whole table, if there is one.
        table: the opened table, to read whole columns from.
    """

    name: str
    path: Path
    rows: int
    columns: Mapping[str, ColumnSummary]
    key: str | None
    table: Table = field(repr=False)

    def values(self, column: str) -> pa.Array:
        """A whole column, plain."""
        from embedkit.data.table import plain

        return plain(self.table.column(column))


def look_at(path: Path, name: str) -> TableFacts:
    """Open a table and summarise its columns.

    Raises:
        DataError: the file is missing, empty, damaged, or neither Parquet nor CSV.
    """
    from embedkit.data.table import open_table

    table = open_table(TableConfig(uri=str(path)), name, Path.cwd())
    sample = next(table.scan(None, table.units[:1]))[1].slice(0, SAMPLE)
    columns = {column: summarise(column, sample.column(column)) for column in table.columns}
    return TableFacts(name, path, table.rows, columns, _key(name, table, columns), table)


def summarise(name: str, values: pa.ChunkedArray | pa.Array) -> ColumnSummary:
    """The summary that field types infer from."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    kept = values.drop_null()
    alone = pa.types.is_nested(values.type) or pa.types.is_null(values.type)  # Arrow cannot count these
    unique = len({repr(value) for value in kept.to_pylist()}) if alone else pc.count_distinct(kept).as_py()
    return ColumnSummary(name, _word(values.type), len(values), values.null_count, unique, kept.slice(0, SHOWN).to_pylist())


def _word(kind: Any) -> str:
    """Arrow's type in the words of ``ColumnSummary``."""
    import pyarrow as pa

    types = pa.types
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return f"list[{_word(kind.value_type)}]"
    tests = {
        "bool": types.is_boolean,
        "int": types.is_integer,
        "float": types.is_floating,
        "decimal": types.is_decimal,
        "date": types.is_date,
        "datetime": types.is_timestamp,
    }
    for word, test in tests.items():
        if test(kind):
            return word
    text = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
    return "string" if text else str(kind)


def words_of(name: str) -> set[str]:
    """The words of a name in lower case, singular, without those that only say "identifier": ``"MovieID"`` → ``{"movie"}``."""
    parts = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name.replace("-", "_"))
    words = {part.lower() for part in parts}
    return {word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word for word in words} - _ID_WORDS


_ID_WORDS = {"id", "ids", "code", "key", "no", "nr", "number", "uuid", "name"}


def _key(name: str, table: Table, columns: Mapping[str, ColumnSummary]) -> str | None:
    """The likeliest key: unique and complete, called like an id of this table, and standing early."""
    import pyarrow.compute as pc

    def likely(column: str) -> tuple[int, int]:
        summary, place = columns[column], list(columns).index(column)
        named = re.search(r"(^|_|[a-z])(id|key|code|uuid|sku|asin|isbn|uri|url)$", column, re.IGNORECASE) is not None
        own = bool(words_of(column) & words_of(name))
        return 4 * named + 2 * own + (summary.dtype == "string" and _short_words(summary)) + (place == 0), -place

    found = [
        c
        for c, s in columns.items()
        if s.dtype in ("int", "string") and s.nulls == 0 and s.unique == s.rows and (s.dtype == "int" or _short_words(s))
    ]
    for column in sorted(found, key=likely, reverse=True):
        values = table.column(column)
        if values.null_count == 0 and pc.count_distinct(values).as_py() == table.rows:
            return column
    return None


def _short_words(summary: ColumnSummary) -> bool:
    """Texts without spaces, as ids are."""
    return all(" " not in str(value).strip() for value in summary.sample)
