"""Pairwise mutual information of encoded fields, from streaming counts (decision 15)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt
import torch

from embedkit.data.codec import FieldStats
from embedkit.data.columns import Column
from embedkit.data.hashing import splitmix64

I64 = npt.NDArray[np.int64]
_ROWS_A_CELL = 4
_FEWEST = 8


def usable_bins(rows: int, most: int = 256) -> int:
    """Bins a field when ``rows`` rows are counted: at most ``most``, and few enough that a pair has 4 rows a cell.

    With fewer rows a cell the Miller-Madow correction fails: two independent fields of 256 bins on 4,000 rows seem to share 2.4 nats.
    """
    return min(most, max(_FEWEST, int(np.sqrt(rows / _ROWS_A_CELL))))


def bin_column(column: Column, stats: FieldStats, bins: int) -> I64:
    """The bin of each row, int64 [B] in [0, bins); bin 0 holds the rows without a value.

    Numbers go by train quantiles (of several numbers a row, the last: a timestamp's trend), codes by themselves where there are few
    and by hash otherwise, lists and other ragged values by a hash of all their values, whatever the order. Works on CPU columns.
    """
    values = column.values.numpy()
    if column.offsets is not None:
        found = _hashed(_row_sums(values, column.offsets.numpy()), bins)
    elif column.values.is_floating_point():
        numbers = values if values.ndim == 1 else values[:, -1]
        found = 1 + np.searchsorted(_inner_edges(stats, bins), numbers, side="right").astype(np.int64)
    elif (stats.size or bins) < bins:
        found = values + 1
    else:
        found = _hashed(values, bins)
    return found if column.present is None else np.where(column.present.numpy(), found, 0)


def _inner_edges(stats: FieldStats, bins: int) -> npt.NDArray[np.float32]:
    if stats.quantiles is None:
        raise ValueError("a field of numbers without quantiles cannot be binned")
    edges = stats.quantiles.numpy()
    count = min(bins - 1, len(edges) - 1)
    if count < 2:
        return edges[:0]
    inner: npt.NDArray[np.float32] = edges[np.linspace(0, len(edges) - 1, count + 1).round().astype(np.int64)[1:-1]]
    return inner


def _row_sums(values: I64, offsets: I64) -> npt.NDArray[np.uint64]:
    sums = np.zeros(len(values) + 1, dtype=np.uint64)
    np.cumsum(splitmix64(values), out=sums[1:])
    return sums[offsets[1:]] - sums[offsets[:-1]]


def _hashed(values: npt.NDArray[np.int64] | npt.NDArray[np.uint64], bins: int) -> I64:
    return 1 + (splitmix64(values) % np.uint64(bins - 1)).astype(np.int64)


class MutualInformation:
    """Counts how often the bins of each two fields meet; counts of parts of a table add up with ``merge``.

    Args:
        stats: field → statistics of its codec; the fields of the matrix, in this order.
        bins: at most this many bins a field; fewer on small tables, see ``usable_bins``.

    Memory: 8 bytes a cell, at most bins² cells a pair: 100 MB for 20 fields of 256 bins.
    """

    def __init__(self, stats: Mapping[str, FieldStats], *, bins: int = 256) -> None:
        self.names = tuple(stats)
        self.bins = usable_bins(max((s.rows for s in stats.values()), default=0), bins)
        self.rows = 0
        self._stats = dict(stats)
        self._single = {name: np.zeros(self.bins, dtype=np.int64) for name in self.names}
        self._joint = {pair: np.zeros(self.bins**2, dtype=np.int64) for pair in combinations(self.names, 2)}

    def observe(self, columns: Mapping[str, Column]) -> None:
        """Count some rows, given all the fields of them."""
        found = {name: bin_column(columns[name], self._stats[name], self.bins) for name in self.names}
        self.rows += len(columns[self.names[0]]) if self.names else 0
        for name, bins in found.items():
            self._single[name] += np.bincount(bins, minlength=self.bins)
        for (one, other), counts in self._joint.items():
            counts += np.bincount(found[one] * self.bins + found[other], minlength=self.bins**2)

    def merge(self, other: MutualInformation) -> None:
        """Add the counts of other rows, taken with the same statistics."""
        if (other.names, other.bins) != (self.names, self.bins):
            raise ValueError("counts of other fields or bins cannot be added")
        self.rows += other.rows
        for name, counts in other._single.items():
            self._single[name] += counts
        for pair, counts in other._joint.items():
            self._joint[pair] += counts

    def matrix(self) -> npt.NDArray[np.float64]:
        """Mutual information in nats, float64 [k, k], symmetric, never negative; the diagonal holds the entropies.

        ``I(X, Y) = H(X) + H(Y) - H(X, Y)``, each entropy ``-sum p log p + (m - 1) / 2N`` for m bins that occur among N rows (Miller 1955;
        Paninski 2003, section 4).
        """
        k = len(self.names)
        out = np.zeros((k, k))
        entropy = [_entropy(self._single[name]) for name in self.names]
        out[np.diag_indices(k)] = entropy
        for i, j in combinations(range(k), 2):
            shared = entropy[i] + entropy[j] - _entropy(self._joint[self.names[i], self.names[j]])
            out[i, j] = out[j, i] = max(0.0, shared)
        return out


def mutual_information(columns: Sequence[Column], bins: int = 256) -> npt.NDArray[np.float64]:
    """The matrix of ``MutualInformation`` for columns in memory, all of the same rows, float64 [k, k]; bins come from the columns."""
    named = {str(i): column for i, column in enumerate(columns)}
    counts = MutualInformation({name: _summary(column, bins) for name, column in named.items()}, bins=bins)
    if named:
        counts.observe(named)
    return counts.matrix()


def _summary(column: Column, bins: int) -> FieldStats:
    """What binning needs to know of a column."""
    rows = len(column)
    if column.offsets is not None:
        return FieldStats(rows, 0)
    if not column.values.is_floating_point():
        return FieldStats(rows, 0, size=int(column.values.max()) + 1 if rows else 1)
    values = column.values if column.present is None else column.values[column.present]
    numbers = values.numpy() if values.dim() == 1 else values[:, -1].numpy()
    edges = np.unique(np.quantile(numbers, np.linspace(0, 1, bins))) if len(numbers) else np.zeros(1)
    return FieldStats(rows, 0, quantiles=torch.from_numpy(edges.astype(np.float32)))


def _entropy(counts: I64) -> float:
    """Miller-Madow entropy of counts, in nats; 0 when nothing was counted."""
    seen = counts[counts > 0]
    if len(seen) == 0:
        return 0.0
    total = seen.sum()
    share = seen / total
    return float(-(share * np.log(share)).sum() + (len(seen) - 1) / (2 * total))
