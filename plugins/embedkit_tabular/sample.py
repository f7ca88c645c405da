"""Sample: rows of a split as an evaluator of a tower sees them: columns, token vectors, embeddings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from embedkit.data.batch import Batch
from embedkit.data.columns import Column, concat
from embedkit.errors import DataError, UsageError
from embedkit.evaluate.base import EvaluateContext
from embedkit.nn.values import Outputs
from embedkit.views import View

Floats = npt.NDArray[np.float64]
_CHUNK = 2048
_NUMBER = {"valid": 1, "test": 2}


@dataclass(frozen=True, eq=False)
class Sample:
    """Some rows of the table that a tower embeds.

    Attributes:
        context: model and store.
        tower: whose fields.
        rows: int64 [N], row numbers of the tower's table, ascending.
    """

    context: EvaluateContext
    tower: str
    rows: Tensor

    @classmethod
    def of(cls, context: EvaluateContext, tower: str, split: Literal["train", "valid", "test"], limit: int) -> Sample:
        """At most ``limit`` rows of a split, drawn by the context's seed.

        Raises:
            DataError: the split has fewer than two rows.
        """
        store = context.store
        table = store.schema.towers[tower].table
        if split == "train":
            rows = store.train_rows(table)
        else:
            rows = np.flatnonzero(np.asarray(store.tables[table].split) == _NUMBER[split])
        if len(rows) < 2:
            raise DataError(f"table '{table}' has {len(rows)} {split} rows, and two are wanted: give [tables.{table}] a split with more")
        if len(rows) > limit:
            rows = np.sort(np.random.default_rng((context.seed, len(rows))).choice(rows, limit, replace=False))
        return cls(context, tower, torch.from_numpy(np.asarray(rows, dtype=np.int64)))

    def column(self, field: str) -> Column:
        """One column of all rows: a field of the tower's table or of one that it joins."""
        return concat([batch.columns[field] for batch in self._batches([field])])

    def embeddings(self) -> Floats:
        """float64 [N, E]."""
        return torch.cat([outputs.embedding.double().cpu() for outputs in self.outputs()]).numpy()

    def outputs(self) -> Iterator[Outputs]:
        """The outputs of the tower, some rows at a time."""
        model, device, precision = self.context.model, self.context.device, self.context.precision
        for batch in self._batches(self.context.store.schema.towers[self.tower].fields):
            with torch.inference_mode(), torch.autocast(device.type, precision, enabled=precision != torch.float32):
                yield model(View(batch.to(device)), self.tower)

    def _batches(self, fields: Sequence[str]) -> Iterator[Batch]:
        table = self.context.store.schema.towers[self.tower].table
        for lo in range(0, len(self.rows), _CHUNK):
            yield self.context.store.batch({table: self.rows[lo : lo + _CHUNK]}, tuple(fields))


def one_value(column: Column, field: str, *, wanted: str) -> Floats:
    """The values of a column of one code or number a row, float64 [N], NaN where missing.

    Raises:
        UsageError: its rows hold lists, or several numbers.
    """
    if column.ragged or column.values.dim() != 1:
        raise UsageError(f"field '{field}' holds several values a row; {wanted} is one category or one number")
    values = column.values.double().numpy().copy()
    if column.present is not None:
        values[~column.present.numpy()] = np.nan
    return values
