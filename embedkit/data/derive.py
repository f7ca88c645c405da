"""``where``, ``dedupe`` and ``group``: rows that are left out, and tables made of other rows (decision 1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from embedkit.data.files import File
from embedkit.data.units import UNIT_ROWS
from embedkit.errors import UsageError

Rows = npt.NDArray[np.int64]
ROW = "__row__"


def _lazy(file: File, rename: Mapping[str, str]) -> pl.LazyFrame:
    return pl.scan_parquet(file.path).rename(dict(rename), strict=False)


def rows_where(files: Sequence[File], where: str, rename: Mapping[str, str], *, table: str) -> list[Rows]:
    """For each file the numbers of the rows for which the predicate is true, ascending.

    Raises:
        UsageError: the predicate is not SQL that can be evaluated on these columns.
    """
    try:
        predicate = pl.sql_expr(where)
        return [
            _lazy(file, rename)
            .with_row_index(ROW)
            .filter(predicate)
            .select(ROW)
            .collect(engine="streaming")[ROW]
            .cast(pl.Int64)
            .sort()
            .to_numpy()
            for file in files
        ]
    except pl.exceptions.PolarsError as error:
        raise UsageError(f"tables.{table}.where: '{where}' cannot be evaluated: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    return str(error).splitlines()[0].replace(f'"{ROW}", ', "").rstrip(".")


def rows_distinct(
    files: Sequence[File], kept: Sequence[Rows | None], by: Sequence[str], order: str | None, rename: Mapping[str, str]
) -> list[Rows]:
    """For each file the rows that are the first of those equal in ``by``: first in ``order``, then in file order. Nulls are equal."""
    columns = list(dict.fromkeys([*by, *([order] if order else [])]))
    frames = []
    for number, (file, rows) in enumerate(zip(files, kept, strict=True)):
        frame = _lazy(file, rename).select(columns).with_row_index(ROW).with_columns(pl.lit(number, pl.Int32).alias("__file__"))
        if rows is not None:
            mask = np.zeros(file.rows, dtype=bool)
            mask[rows] = True
            frame = frame.filter(pl.lit(pl.Series(mask)))
        frames.append(frame.collect())
    everything = pl.concat(frames, how="vertical_relaxed")
    if order:
        everything = everything.sort(order, maintain_order=True, nulls_last=True)
    first = everything.unique(list(by), keep="first", maintain_order=True).select("__file__", ROW)
    return [first.filter(pl.col("__file__") == n)[ROW].cast(pl.Int64).sort().to_numpy() for n in range(len(files))]


def group_rows(spool: Path, target: Path, by: str, columns: Mapping[str, str], *, table: str) -> tuple[int, int]:
    """One row per value of ``by``, in the order of first appearance, written to ``target``.

    Missing values are passed over (``first`` is the first value there is). ``mode`` is the most frequent value, of equally frequent
    ones the one that came first.

    Returns:
        Groups written, and rows that were left out because ``by`` is missing.

    Raises:
        UsageError: a column cannot be summed up like that, such as the median of text.
    """
    try:
        return _group_rows(spool, target, by, columns)
    except pl.exceptions.PolarsError as error:
        raise UsageError(f"tables.{table}.group: its columns cannot be derived as it says: {_reason(error)}") from error


def _group_rows(spool: Path, target: Path, by: str, columns: Mapping[str, str]) -> tuple[int, int]:
    rows = pl.scan_parquet(spool).with_row_index(ROW)
    absent = int(rows.select(pl.col(by).is_null().sum()).collect(engine="streaming").item())
    rows = rows.filter(pl.col(by).is_not_null())
    plain = [_aggregate(column, how) for column, how in columns.items() if how != "mode"]
    out = rows.group_by(by).agg(pl.col(ROW).min(), *plain).collect(engine="streaming")
    for column in (c for c, how in columns.items() if how == "mode"):
        counted = (
            rows.filter(pl.col(column).is_not_null())
            .group_by(by, column)
            .agg(pl.len().alias("__count__"), pl.col(ROW).min())
            .sort(["__count__", ROW], descending=[True, False])
            .unique(by, keep="first", maintain_order=True)
            .select(by, column)
        )
        out = out.join(counted.collect(engine="streaming"), on=by, how="left")
    out = out.sort(ROW).select(by, *columns)
    out.write_parquet(target, row_group_size=UNIT_ROWS)
    return out.height, absent


def _aggregate(column: str, how: str) -> pl.Expr:
    values = pl.col(column).sort_by(ROW).drop_nulls() if how in ("first", "last") else pl.col(column)
    expression: dict[str, pl.Expr] = {
        "first": values.first(),
        "last": values.last(),
        "median": values.median(),
        "mean": values.mean(),
        "min": values.min(),
        "max": values.max(),
        "sum": values.sum(),
        "count": values.count(),
        "n_unique": values.drop_nulls().n_unique(),
    }
    return expression[how].alias(column)
