"""The columns of a tower as a plain matrix: one-hot and standardised for linear models and neighbours, codes for trees."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
import torch

from embedkit.data.columns import Column
from embedkit.evaluate.metrics import Bools, Floats, Ints

if TYPE_CHECKING:
    from embedkit.data.codec import FieldStats
    from embedkit.data.store import Store

Matrix = Any
"""float64 [n, columns]: a numpy array, or a scipy CSR matrix."""

_BUCKETS = 4096
_TREE_CATEGORIES = 254
_TREE_VALUES = 32
_AT_ONCE = 16_384


class Raw:
    """Reads rows of a tower's fields, its table's key apart: a key tells every row from every other, and nothing of a new one.

    Args:
        store: with codecs, which standardise numbers by the train rows.
        tower: whose fields.
    """

    def __init__(self, store: Store, tower: str) -> None:
        self.store = store
        self.table = store.schema.towers[tower].table
        self.specs = [spec for spec in store.schema.tower_fields(tower) if spec.role != "key"]
        self.stats = store.codecs.stats

    def one_hot(self, rows: Ints, limit: int) -> Matrix:
        """Numbers as their codec standardises them, with a column that says where one is missing; categories one-hot; lists and texts as
        the set of their values (texts by hash, 4,096 buckets)."""
        blocks = self._blocks(rows, limit, lambda name, column: _one_hot(column, self.stats[name]))
        if all(isinstance(block, np.ndarray) for block in blocks):
            return np.hstack(blocks) if blocks else np.zeros((len(rows), 0))
        return sp.hstack(blocks, format="csr")

    def for_trees(self, rows: Ints, limit: int) -> TreeMatrix:
        """Numbers with NaN where missing; categories as codes, the 254 most frequent ones; of lists and texts the 32 most frequent
        values as yes or no, and the length."""
        categorical: list[bool] = []
        blocks = self._blocks(rows, limit, lambda name, column: _for_trees(column, self.stats[name]))
        for spec, block in zip(self.specs, blocks, strict=True):
            categorical += [spec.type == "category"] * block.shape[1]
        return TreeMatrix(np.hstack(blocks) if blocks else np.zeros((len(rows), 0)), np.array(categorical, dtype=bool))

    def _blocks(self, rows: Ints, limit: int, of: Callable[[str, Column], Matrix]) -> list[Matrix]:
        """One block a field, read some rows at a time."""
        parts: list[list[Matrix]] = [[] for _ in self.specs]
        for at in range(0, max(1, len(rows)), _AT_ONCE):
            wanted = torch.from_numpy(rows[at : at + _AT_ONCE])
            columns = self.store.batch({self.table: wanted}, [spec.name for spec in self.specs], limit=limit).columns
            for part, spec in zip(parts, self.specs, strict=True):
                part.append(of(spec.name, columns[spec.name]))
        return [np.vstack(part) if isinstance(part[0], np.ndarray) else sp.vstack(part, format="csr") for part in parts]


@dataclass(frozen=True, eq=False)
class TreeMatrix:
    """float64 [n, columns], and which columns hold categories."""

    values: Floats
    categorical: Bools

    def __getitem__(self, rows: Bools) -> TreeMatrix:
        return TreeMatrix(self.values[rows], self.categorical)


def _present(column: Column) -> Bools:
    return np.ones(len(column), bool) if column.present is None else column.present.numpy()


def _one_hot(column: Column, stats: FieldStats) -> Matrix:
    present = _present(column)
    if column.values.is_floating_point() and not column.ragged:
        values = np.asarray(column.values.numpy(), dtype=np.float64).reshape(len(column), -1)
        return np.hstack([np.where(present[:, None], values, 0.0), ~present[:, None]])
    width = stats.size or _BUCKETS
    if column.offsets is None:
        offsets = np.concatenate([[0], np.cumsum(present)])
        codes = column.values.numpy()[present]
    else:
        offsets, codes = column.offsets.numpy(), column.values.numpy()
    block = sp.csr_matrix((np.ones(len(codes)), codes % width, offsets), shape=(len(column), width))
    block.sum_duplicates()
    block.data[:] = 1.0
    return block


def _for_trees(column: Column, stats: FieldStats) -> Floats:
    present = _present(column)
    if column.values.is_floating_point() and not column.ragged:
        values = np.asarray(column.values.numpy(), dtype=np.float64).reshape(len(column), -1)
        return np.where(present[:, None], values, np.nan)
    if column.offsets is None:
        number = _numbering(stats, _TREE_CATEGORIES)
        codes = column.values.numpy()
        return np.where(present, number[codes], np.nan)[:, None]
    lengths = np.diff(column.offsets.numpy()).astype(np.float64)[:, None]
    if stats.counts is None:
        return lengths
    number = _numbering(stats, _TREE_VALUES)
    found = np.zeros((len(column), _TREE_VALUES + 1))
    found[np.repeat(np.arange(len(column)), lengths[:, 0].astype(np.int64)), number[column.values.numpy()].astype(np.int64)] = 1.0
    return np.hstack([found[:, 1:], lengths])


def _numbering(stats: FieldStats, most: int) -> Floats:
    """Code → 1, 2, … for the most frequent codes of the train rows, 0 for the rest."""
    assert stats.counts is not None
    counts = stats.counts.numpy()
    kept = np.argsort(-counts, kind="stable")[:most]
    number = np.zeros(len(counts))
    number[kept] = np.arange(1, len(kept) + 1)
    return number
