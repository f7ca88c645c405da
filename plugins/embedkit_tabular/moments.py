"""Statistics of a stream of numbers that do not depend on how the stream is cut into arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from embedkit.data.hashing import splitmix64

F64 = npt.NDArray[np.float64]
_BLOCK = 65_536
_SAMPLE = 65_536


class Moments:
    """Mean and standard deviation, united block by block (Chan, Golub, LeVeque 1983); blocks are of fixed size whatever the arrays are."""

    def __init__(self) -> None:
        self.count, self.mean, self._squares = 0, 0.0, 0.0
        self.low, self.high = np.inf, -np.inf
        self._rest: F64 = np.empty(0)

    def observe(self, values: F64) -> None:
        """See finite values, float64 [n], of size below 1e150."""
        if len(values) == 0:
            return
        self.low, self.high = min(self.low, float(values.min())), max(self.high, float(values.max()))
        values = np.concatenate([self._rest, values])
        whole = len(values) // _BLOCK * _BLOCK
        for start in range(0, whole, _BLOCK):
            self._unite(values[start : start + _BLOCK])
        self._rest = values[whole:].copy()

    def _unite(self, block: F64) -> None:
        n, mean = len(block), float(block.mean())
        total, shift = self.count + n, mean - self.mean
        self._squares += float(np.square(block - mean).sum()) + shift * shift * self.count * n / total
        self.mean += shift * n / total
        self.count = total

    def finish(self) -> tuple[float, float]:
        """Mean and standard deviation. The deviation is 1 where all values are equal, and (0, 1) stands for no values at all."""
        if len(self._rest):
            self._unite(self._rest)
            self._rest = self._rest[:0]
        if self.count == 0:
            return 0.0, 1.0
        deviation = float(np.sqrt(self._squares / self.count))
        constant = self.low == self.high or deviation <= 1e-13 * abs(self.mean)
        return (self.low, 1.0) if self.low == self.high else (self.mean, 1.0 if constant else deviation)


class Sample:
    """A uniform sample of at most 65,536 values: those whose place in the stream hashes lowest, so the draw repeats exactly."""

    def __init__(self) -> None:
        self._seen = 0
        self._values: F64 = np.empty(0)
        self._ranks = np.empty(0, dtype=np.uint64)

    def observe(self, values: F64) -> None:
        """See values, float64 [n]."""
        ranks = splitmix64(np.arange(self._seen, self._seen + len(values), dtype=np.uint64))
        self._seen += len(values)
        values, ranks = np.concatenate([self._values, values]), np.concatenate([self._ranks, ranks])
        if len(values) > _SAMPLE:
            keep = np.argpartition(ranks, _SAMPLE)[:_SAMPLE]
            values, ranks = values[keep], ranks[keep]
        self._values, self._ranks = values, ranks

    def edges(self, bins: int, low: float, high: float) -> F64:
        """Edges of at most ``bins`` bins from ``low`` to ``high``, float64, ascending and distinct; empty when nothing was seen.

        A value that would fill a bin alone is an edge, and the other values share the rest evenly. Plain quantiles of a column that is
        mostly zero would nearly all be that zero, and leave one bin for all that the column tells (Adult's capital gains: 5 edges of
        49, and 31 this way, which brought a linear model's accuracy from 0.859 to 0.869).
        """
        if len(self._values) == 0:
            return np.empty(0)
        values, counts = np.unique(self._values, return_counts=True)
        known = np.unique([low, *values, high])
        if len(known) <= bins + 1:
            return known
        alone = values[counts > len(self._values) / bins]
        others = self._values[~np.isin(self._values, alone)]
        shared = np.quantile(others, np.linspace(0.0, 1.0, bins + 1 - len(alone)))
        shared[0], shared[-1] = (shared[0] if low in alone else low), (shared[-1] if high in alone else high)
        return np.unique(np.concatenate([alone, shared]))


class Standard:
    """Standardisation that is fitted on a stream: mean, deviation, and edges of bins in standardised units.

    Args:
        clip: standardised values are cut to this many deviations.
        bins: most bins whose edges are kept.
    """

    def __init__(self, clip: float, bins: int) -> None:
        self._clip, self._bins = clip, bins
        self._moments, self._sample = Moments(), Sample()
        self.mean, self.deviation = 0.0, 1.0
        self.edges: F64 = np.zeros(1)

    def observe(self, values: F64) -> None:
        """See train values that are there, float64 [n]."""
        self._moments.observe(values)
        self._sample.observe(values)

    def finish(self) -> None:
        """Settle everything. The outer edges are the least and the greatest value; edges that coincide are one."""
        self.mean, self.deviation = self._moments.finish()
        edges = self._sample.edges(self._bins, self._moments.low, self._moments.high)
        if len(edges):
            self.edges = np.unique(self(edges).astype(np.float32)).astype(np.float64)

    def __call__(self, values: F64) -> F64:
        """Standardise, float64 of the same shape."""
        return np.clip((values - self.mean) / self.deviation, -self._clip, self._clip)

    def state(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"mean": self.mean, "deviation": self.deviation, "edges": self.edges.tolist()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take what ``state`` returned."""
        self.mean, self.deviation = float(state["mean"]), float(state["deviation"])
        self.edges = np.array(state["edges"], dtype=np.float64)
