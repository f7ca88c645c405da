"""Checks of columns: they are there, keys are unique, numbers are finite. Each failure is one sentence."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from embedkit.errors import DataError
from embedkit.files import write_errors

Hashes = npt.NDArray[np.uint64]
_HELD = 1 << 20
"""Hashes held in memory before they go to disk."""
_FILES = 64
"""Files that they are spread over, a power of two."""

Place = Callable[[int], str]
"""Says where a table row stands: "row 17 of data/items.parquet"."""


def require_columns(wanted: Iterable[str], there: Sequence[str], *, table: str, source: str, why: str = "") -> None:
    """Raise ``DataError`` for the first wanted column that is not there."""
    for column in wanted:
        if column not in there:
            close = get_close_matches(column, there, n=1)
            hint = f"; did you mean '{close[0]}'?" if close else "."
            shown = ", ".join(there[:30]) + (", …" if len(there) > 30 else "")
            raise DataError(f"table '{table}': {source} has no column '{column}'{why}{hint} It has: {shown}")


def check_key(read: Callable[[], Iterable[tuple[int, pa.Array]]], *, table: str, column: str, place: Place) -> None:
    """Raise ``DataError`` unless every value of a key column is there and none stands twice.

    Only 64-bit hashes are looked at, spilled to disk where there are many (decision 5); rows with equal hashes are compared by value.

    Args:
        read: starts a pass over (first row, values); a second pass is made only when hashes collide.
        table: for the message.
        column: for the message.
        place: for the message.
    """

    def hashes() -> Iterator[Hashes]:
        for row, values in read():
            if values.null_count:
                first = row + int(np.flatnonzero(np.asarray(values.is_null()))[0])
                raise DataError(f"table '{table}': key column '{column}' has no value in {place(first)}; every row needs one")
            yield _hashed(values)

    twice = _repeated(hashes())
    if not len(twice):
        return
    seen: dict[object, int] = {}
    for row, values in read():
        for at in np.flatnonzero(np.isin(_hashed(values), twice)).tolist():
            value = values[at].as_py()
            if value in seen:
                raise DataError(
                    f"table '{table}': key column '{column}' holds {value!r} twice, in {place(seen[value])} and {place(row + at)}; "
                    "keys must be unique (see 'dedupe' and 'group')"
                )
            seen[value] = row + at


def _hashed(values: pa.Array) -> Hashes:
    return pl.Series(pl.from_arrow(values)).hash(0).to_numpy()


def _repeated(stream: Iterable[Hashes]) -> Hashes:
    """The hashes that stand more than once in a stream, ascending, in memory for ``_HELD`` of them at most.

    Longer streams go to files by their first bits, so that equal ones meet in one file, and the files are looked at one by one.
    """
    held: list[Hashes] = []
    with tempfile.TemporaryDirectory(prefix="embedkit-keys-") as folder:
        spilled = False
        for part in stream:
            held.append(part)
            if sum(map(len, held)) > _HELD:
                _spill(held, Path(folder))
                held, spilled = [], True
        if not spilled:
            return _twice(np.concatenate(held)) if held else np.empty(0, np.uint64)
        _spill(held, Path(folder))
        return np.concatenate([_twice(np.fromfile(path, np.uint64)) for path in sorted(Path(folder).iterdir())])


def _spill(held: Sequence[Hashes], folder: Path) -> None:
    if not held:
        return
    hashes = np.sort(np.concatenate(held))
    bounds = np.searchsorted(hashes, np.arange(1, _FILES, dtype=np.uint64) << np.uint64(64 - _FILES.bit_length() + 1))
    for number, part in enumerate(np.split(hashes, bounds)):
        path = folder / f"{number:02}"
        with write_errors(path), path.open("ab") as file:
            part.tofile(file)


def _twice(hashes: Hashes) -> Hashes:
    hashes.sort()
    return np.unique(hashes[1:][hashes[1:] == hashes[:-1]])


def check_finite(column: str, values: pa.Array, row0: int, *, table: str, place: Place, missing: bool) -> pa.Array:
    """The values, with infinities made missing if ``missing``; else raise ``DataError`` at the first one.

    Looks into lists too. Anything but floating-point numbers passes untouched.
    """
    kind = values.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        flat = values.flatten()
        if not pa.types.is_floating(flat.type) or not _any_infinite(flat):
            return values
        if not missing:
            at = int(np.flatnonzero(np.asarray(pc.is_inf(flat).fill_null(False)))[0])
            _refuse(column, flat[at], row0 + int(pc.list_parent_indices(values)[at].as_py()), table, place)
        cleaned = pc.if_else(pc.is_inf(flat), None, flat)
        return type(values).from_arrays(_offsets(values), cleaned, mask=values.is_null() if values.null_count else None)
    if not pa.types.is_floating(kind) or not _any_infinite(values):
        return values
    if not missing:
        at = int(np.flatnonzero(np.asarray(pc.is_inf(values).fill_null(False)))[0])
        _refuse(column, values[at], row0 + at, table, place)
    return pc.if_else(pc.is_inf(values), None, values)


def _any_infinite(values: pa.Array) -> bool:
    return bool(pc.any(pc.is_inf(values)).as_py())


def _offsets(values: pa.Array) -> pa.Array:
    lengths = np.asarray(pc.list_value_length(values).fill_null(0)).astype(np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return pa.array(offsets, pa.int64() if pa.types.is_large_list(values.type) else pa.int32())


def _refuse(column: str, value: pa.Scalar, row: int, table: str, place: Place) -> None:
    raise DataError(
        f"table '{table}': column '{column}' holds {value.as_py()} in {place(row)}; numbers must be finite "
        '(set nonfinite = "missing" to treat it as missing)'
    )
