"""An order of vectors in which near ones come one after the other."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from scipy.cluster.vq import kmeans2, vq

from embedkit.index.base import Rows, Take, Vectors

SMALLEST = 32_768
"""So many vectors and their links lie in a processor's cache in any order."""
_FINER = 5
"""After each pass over the clusters so many times as many vectors are there as after the one before."""
_CLUSTER = 512
"""Vectors a cluster, about."""
_SAMPLE = 50
"""Vectors a centre of a cluster is made of."""
_MOST = 256
"""Clusters of one level at most."""
_BLOCK = 65_536

Numbers = npt.NDArray[np.int32]


def near_together(take: Take, rows: int, seed: int = 0) -> Rows | None:
    """Order vectors by clusters of clusters (k-means, twice); near clusters come one after the other.

    They come in passes over the clusters, each finer than the one before: a random choice that a cache holds, then ever larger shares of
    the rest. A graph that sees all regions before it fills them finds as much as one that is built in random order; filled region by region
    it finds a few per cent less.

    Args:
        take: the vectors of some rows, float32 [n, E].
        rows: how many there are, M.
        seed: of what is drawn.

    Returns:
        int64 [M], the row of each place; None where so few rows gain nothing. Memory is a few numbers a row, and a block of vectors.
    """
    if rows < SMALLEST:
        return None
    random = np.random.default_rng(seed)
    each = int(np.clip(np.sqrt(rows / _CLUSTER), 2, _MOST))
    coarse = clusters_of(take, np.arange(rows), each, random)
    fine = np.empty(rows, np.int32)
    for members in groups_of(coarse):
        fine[members] = clusters_of(take, members, min(each, len(members) // _CLUSTER), random)
    lot = random.permutation(rows)
    ends = [rows]
    while ends[0] > SMALLEST:
        ends.insert(0, ends[0] // _FINER)
    level = np.searchsorted(ends, lot, side="right")
    first = level == 0
    coarse[first], fine[first] = 0, lot[first]
    return np.lexsort((fine, coarse, level))


def clusters_of(take: Take, rows: Rows, clusters: int, random: np.random.Generator, sample: int = _SAMPLE) -> Numbers:
    """The k-means cluster of each of some rows, int32 [n], numbered so that near clusters have near numbers.

    Args:
        take: the vectors of some rows, float32 [n, E].
        rows: int64 [n].
        clusters: how many are wanted; fewer where vectors are alike.
        random: draws the vectors that the centres are made of.
        sample: so many of them a cluster.
    """
    if clusters < 2:
        return np.zeros(len(rows), np.int32)
    drawn = np.sort(random.choice(rows, min(len(rows), sample * clusters), replace=False))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a cluster stays empty, which does no harm
        centres = kmeans2(take(drawn), clusters, iter=5, minit="points", seed=random)[0]
    number = _along(centres)
    return np.concatenate([number[vq(take(some), centres, check_finite=False)[0]] for some in _pieces(rows)])


def _along(centres: Vectors) -> Numbers:
    """The place of each centre, [k], on a walk that always goes to the nearest one not yet seen."""
    apart = np.square(centres[:, None] - centres[None]).sum(2)
    place, at = np.empty(len(centres), np.int32), 0
    for step in range(len(centres)):
        place[at] = step
        apart[:, at] = np.inf
        at = int(apart[at].argmin())
    return place


def groups_of(numbers: Numbers) -> Iterator[Rows]:
    """The places that hold each number, int64, ascending; the smallest number first."""
    order = np.argsort(numbers, kind="stable")
    yield from np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1)


def _pieces(rows: Rows) -> Iterator[Rows]:
    for start in range(0, len(rows), _BLOCK):
        yield rows[start : start + _BLOCK]
