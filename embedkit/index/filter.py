"""Attributes: columns of the catalogue that stand beside an index, and predicates over them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from embedkit.errors import UsageError
from embedkit.index.base import Mask, Rows

_KEPT = 16
"""Predicates whose answers are kept."""


class Attributes:
    """Columns in row order, in a Parquet file. ``path`` need not exist: an index may keep none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.columns: tuple[str, ...] = tuple(pl.read_parquet_schema(path)) if path.is_file() else ()
        self._masks: OrderedDict[str, Mask] = OrderedDict()

    def where(self, predicate: str) -> Mask:
        """Bool [M]: the rows for which a predicate in SQL is true (null counts as false).

        Raises:
            UsageError: it cannot be evaluated on the columns there are.
        """
        if predicate not in self._masks:
            self._masks[predicate] = self._evaluate(predicate)
            if len(self._masks) > _KEPT:
                self._masks.popitem(last=False)
        self._masks.move_to_end(predicate)
        return self._masks[predicate]

    def _evaluate(self, predicate: str) -> Mask:
        if not self.columns:
            raise UsageError(f"where '{predicate}': the index keeps no columns to filter by; build it with columns to keep")
        try:
            frame = pl.scan_parquet(self.path).select(pl.sql_expr(predicate).alias("where")).collect()
        except pl.exceptions.PolarsError as error:
            reason = str(error).strip().splitlines()[0]
            raise UsageError(
                f"where '{predicate}': cannot be evaluated ({reason}); the index keeps the columns {', '.join(self.columns)}"
            ) from error
        if frame["where"].dtype != pl.Boolean:
            raise UsageError(f"where '{predicate}': gives {frame['where'].dtype}, but a condition that is true or false is wanted")
        mask: Mask = np.array(frame["where"].fill_null(False).to_numpy(), dtype=np.bool_)
        return mask

    def take(self, rows: Rows, columns: Sequence[str] | None = None) -> pa.Table:
        """Columns of some rows (int64 [N], none of them -1).

        Raises:
            UsageError: the index does not keep such a column.
        """
        wanted = self.columns if columns is None else tuple(columns)
        for column in wanted:
            if column not in self.columns:
                kept = ", ".join(self.columns) or "none"
                raise UsageError(f"the index keeps no column '{column}'; it keeps {kept}")
        distinct, back = np.unique(rows, return_inverse=True)
        frame = pl.scan_parquet(self.path).select(wanted).with_row_index("__row__")
        found = frame.filter(pl.col("__row__").is_in(distinct.tolist())).sort("__row__").drop("__row__").collect()
        return found[back].to_arrow()
