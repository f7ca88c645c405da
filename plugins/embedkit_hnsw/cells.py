"""Vectors divided into cells of near ones, and a stream of them cut where a cell ends."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby

import numpy as np

from embedkit.index.base import Rows, Take, Vectors
from embedkit.index.order import clusters_of, groups_of

_MOST = 256
"""Cells made in one go; more are made of these in turn, so that the time grows with the vectors alone."""
_LOPSIDED = 0.9
"""Where one of the parts has more than this share of the vectors, they are too much alike to be told apart."""
_SAMPLE = 500
"""Vectors a centre is made of: with a tenth of them cells differ more in size, and their borders part more neighbours."""


def divide(take: Take, rows: int, size: int, seed: int = 0) -> list[Rows]:
    """Divide vectors into cells by k-means, and again those with more than twice as many as wanted.

    Args:
        take: the vectors of some rows, float32 [n, E].
        rows: how many there are, M.
        size: vectors wanted in a cell.
        seed: of what is drawn.

    Returns:
        The rows of each cell, int64, ascending; each row is in one cell. Vectors that are nearly all alike are cut by their row.
    """
    random = np.random.default_rng(seed)
    cells: list[Rows] = []
    left = [np.arange(rows)]
    while left:
        members = left.pop()
        if len(members) <= 2 * size:
            cells.append(members)
            continue
        parts = -(-len(members) // size)
        groups = [members[places] for places in groups_of(clusters_of(take, members, min(parts, _MOST), random, _SAMPLE))]
        if max(len(group) for group in groups) > _LOPSIDED * len(members):
            groups = np.array_split(members, parts)
        left.extend(reversed(groups))
    return cells


def cut_at(blocks: Iterable[Vectors], sizes: Iterable[int]) -> Iterator[Iterator[Vectors]]:
    """The vectors of each cell in turn, from blocks that do not mind the cells. A cell must be read before the next one is asked for.

    Args:
        blocks: float32 [N, E] each.
        sizes: vectors of each cell, at least 1; all of them are as many as the blocks hold.
    """
    for _, pieces in groupby(_pieces(blocks, sizes), key=lambda one: one[0]):
        yield (piece for _, piece in pieces)


def _pieces(blocks: Iterable[Vectors], sizes: Iterable[int]) -> Iterator[tuple[int, Vectors]]:
    """(cell, vectors) in turn."""
    ends = np.cumsum(list(sizes))
    start = 0
    for block in blocks:
        stop = start + len(block)
        while start < stop:
            cell = int(np.searchsorted(ends, start, side="right"))
            end = min(stop, int(ends[cell]))
            yield cell, block[len(block) - (stop - start) : len(block) - (stop - end)]
            start = end
