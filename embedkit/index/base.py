"""Index: the protocol of nearest-neighbour backends. Registered with ``register_indexes``.

A backend knows rows (0 … M-1, in the order they were given) and inner products; ids, full vectors, filters by
attribute, prefixes and the checks of spaces belong to ``IndexBundle``. Scores are inner products: larger is nearer. For the cosine metric
the vectors and queries that a backend sees have unit length.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from embedkit.component import Component
from embedkit.errors import UsageError
from embedkit.index.config import IndexConfig
from embedkit.space import Metric

Vectors = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Take = Callable[[Rows], Vectors]
"""The vectors of some rows, int64 [n] → float32 [n, E']; from disk, where near row numbers lie near."""


@dataclass(frozen=True)
class IndexContext:
    """What a backend knows besides its options.

    Attributes:
        dim: width E' of the vectors it holds (the prefix, where there is one).
        metric: ``cosine`` (all vectors have unit length) or ``dot``.
        threads: threads it may use.
    """

    dim: int
    metric: Metric = "cosine"
    threads: int = 1


class Index(Component):
    """Base of index backends."""

    config: IndexConfig
    context: IndexContext

    @property
    @abstractmethod
    def rows(self) -> int:
        """Vectors it holds, M."""

    def arrange(self, take: Take, rows: int) -> Rows | None:
        """Look at the vectors before they are indexed, and choose the order in which ``build`` gets them.

        Args:
            take: the vectors of some rows, float32 [n, E'].
            rows: how many there are, M, at least 1.

        Returns:
            int64 [M], the row of each place; None where they shall come in their own order, or it is all the same.
        """
        return None

    @abstractmethod
    def build(self, blocks: Iterable[Vectors], rows: int, order: Rows | None = None) -> None:
        """Index vectors that come in blocks. Memory beyond the index itself is a block's.

        Args:
            blocks: float32 [N, E'] each.
            rows: how many vectors come in all, M.
            order: what ``arrange`` returned for these vectors; left out where that was None.

        Raises:
            UsageError: there are none, or their width is not E'.
        """

    @abstractmethod
    def search(self, queries: Vectors, k: int, allowed: Mask | None = None) -> tuple[Rows, Vectors]:
        """The nearest rows of each query.

        Args:
            queries: float32 [Q, E'].
            k: neighbours wanted, at least 1.
            allowed: bool [M], True for the rows that may be returned; None for all.

        Returns:
            rows int64 [Q, K] and scores float32 [Q, K], best first, K the smaller of ``k`` and the number of rows that
            may be returned.

        Raises:
            UsageError: k is below 1, or the queries' width is not E'.
        """

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the index into an empty folder; the caller renames the folder once everything is in it."""

    @abstractmethod
    def load(self, folder: Path) -> None:
        """Take what ``save`` wrote.

        Raises:
            BundleError: a file is missing, damaged, or of another width.
        """

    def checked(self, queries: Vectors, k: int, allowed: Mask | None = None) -> Vectors:
        """The queries as contiguous float32, after the checks that every ``search`` makes."""
        if k < 1:
            raise UsageError(f"k = {k}: at least one neighbour must be asked for")
        if queries.ndim != 2 or queries.shape[1] != self.context.dim:
            raise UsageError(f"queries have shape {list(queries.shape)}, but the index wants [Q, {self.context.dim}]")
        if allowed is not None and allowed.shape != (self.rows,):
            raise UsageError(f"the filter has shape {list(allowed.shape)}, but the index holds {self.rows} rows")
        return np.ascontiguousarray(queries, dtype=np.float32)
