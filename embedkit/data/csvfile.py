"""CSV → Parquet, in a stream: column types are those of the first megabytes, widened where a later value does not fit."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq

from embedkit.data.units import UNIT_ROWS
from embedkit.errors import DataError

_BLOCK = 8 << 20
_BAD_VALUE = re.compile(r"In CSV column #(\d+)")
_WIDER: dict[pa.DataType, pa.DataType] = {pa.null(): pa.int64(), pa.int64(): pa.float64()}


def to_parquet(source: Path, target: Path, label: str, *, table: str) -> str:
    """Write the rows of a CSV file (header in the first line; ``.tsv`` separated by tabs) to a Parquet file.

    Empty fields mean missing, in text columns too. A column whose values are not all numbers (dates, truth values) is text.

    Returns:
        blake2b-128 (hex) of the file's bytes.

    Raises:
        DataError: no header, a row with another number of fields than the header, or bytes that are not UTF-8.
    """
    types: dict[str, pa.DataType] = {}
    while True:
        try:
            _convert(source, target, label, types, table=table)
            break
        except _Widen as wanted:
            types |= wanted.types
    with source.open("rb") as handle:
        return hashlib.file_digest(handle, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


class _Widen(Exception):  # noqa: N818 - control flow: start again with these types
    def __init__(self, types: dict[str, pa.DataType]) -> None:
        super().__init__()
        self.types = types


def _convert(source: Path, target: Path, label: str, types: dict[str, pa.DataType], *, table: str) -> None:
    bad: list[pc.InvalidRow] = []

    def refuse(row: pc.InvalidRow) -> str:
        bad.append(row)
        return "error"

    tab = ".tsv" in source.name.lower()
    parse = pc.ParseOptions(delimiter="\t" if tab else ",", newlines_in_values=True, invalid_row_handler=refuse)
    convert = pc.ConvertOptions(column_types=types, strings_can_be_null=True, quoted_strings_can_be_null=False, null_values=[""])
    schema: pa.Schema | None = None
    try:
        reader = pc.open_csv(source, pc.ReadOptions(block_size=_BLOCK, use_threads=False), parse, convert)
        schema = reader.schema
        _no_duplicates(schema.names, label, table)
        for field in schema:
            if pa.types.is_binary(field.type):
                raise _not_text(field.name, label, table)
        with pq.ParquetWriter(target, schema) as writer:
            for batch in reader:
                writer.write_batch(batch, row_group_size=UNIT_ROWS)
    except pa.ArrowInvalid as error:
        if bad:
            row = bad[0]
            raise DataError(
                f"table '{table}': {label} line {row.number} has {row.actual_columns} fields, its header {row.expected_columns}: "
                f"{_short(row.text)}; quote values that hold the separator"
            ) from error
        match = _BAD_VALUE.search(str(error))
        if match and schema is not None:
            column = schema.field(int(match[1]))
            if "invalid UTF8" in str(error) or pa.types.is_string(column.type):
                raise _not_text(column.name, label, table) from error
            raise _Widen({column.name: _WIDER.get(column.type, pa.string())}) from error
        raise DataError(f"table '{table}': {label} cannot be read as CSV: {str(error).splitlines()[0]}") from error


def _not_text(column: str, label: str, table: str) -> DataError:
    return DataError(f"table '{table}': {label} column '{column}' holds bytes that are not UTF-8; save the file as UTF-8")


def _no_duplicates(names: list[str], label: str, table: str) -> None:
    for name in names:
        if names.count(name) > 1:
            raise DataError(f"table '{table}': {label} has more than one column called '{name}'; rename one in its header")


def _short(text: str, width: int = 60) -> str:
    return repr(text if len(text) <= width else text[: width - 1] + "…")
