"""The table of per-query figures that ``embedkit compare`` reads: ``queries-<split>.parquet`` in a run's folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
import pyarrow as pa

from embedkit.evaluate.metrics import MISS, Floats, Ints, Ranks
from embedkit.evaluate.ranks import Ragged

KEYS = ("model", "query", "user", "targets", "ranks", "score")
"""Columns that are no metrics: who ranked or predicted; the query's id; its user's number; item rows of its relevant items
(-1: not in the item table) and their ranks, null for a miss; or a row's label and what was predicted for it."""


def query_table(
    model: str, queries: Sequence[str], users: Ints, targets: Ragged, ranks: Ranks, metrics: Mapping[str, Floats]
) -> pl.DataFrame:
    """One row a query: ``KEYS`` and a float64 column for each metric.

    Args:
        model: ``model``, or the baseline's name.
        queries: ids, [Q].
        users: user numbers, [Q].
        targets: relevant item rows of each query.
        ranks: theirs, in the same order.
        metrics: name -> [Q].
    """
    offsets = pa.array(targets[1])
    missed = ranks.values == MISS
    values = pa.array(np.where(missed, 0, ranks.values), mask=missed)
    columns = {
        "model": pl.Series([model]).new_from_index(0, len(queries)),
        "query": pl.Series(list(queries), dtype=pl.String),
        "user": pl.Series(np.asarray(users, dtype=np.int64)),
        "targets": pl.Series(pl.from_arrow(pa.LargeListArray.from_arrays(offsets, pa.array(targets[0])))),
        "ranks": pl.Series(pl.from_arrow(pa.LargeListArray.from_arrays(offsets, values))),
    }
    return pl.DataFrame(columns | {name: pl.Series(v) for name, v in metrics.items()})
