"""Bootstrap intervals and paired comparisons (decision 22).

What is resampled are users with their queries, with replacement, and, where there are several, the runs with
different seeds, crossed with the
queries: one resample draws Q queries and, apart from that, S seeds, and takes the mean over both (Owen 2007, the
pigeonhole bootstrap). Intervals are the 2.5% and 97.5% percentiles of the resampled means. Resampling draws indices
and turns them into counts, a chunk at a time, so that many metrics cost one matrix product and memory does not grow
with the number of resamples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from embedkit.evaluate.metrics import Floats, Ints

RESAMPLES = 2000
_CHUNK_BYTES = 32 * 2**20


@dataclass(frozen=True, eq=False)
class Interval:
    """Means of m columns with their 95% intervals; ``low`` and ``high`` are NaN where there is nothing to resample
    (one query)."""

    value: Floats
    low: Floats
    high: Floats

    def cells(self, form: str = ".4f") -> list[str]:
        """For people, a text a column: ``0.1234 [0.1200, 0.1270]``; ``form`` is how each number is written."""
        return [f"{value:{form}} [{low:{form}}, {high:{form}}]" for value, low, high in zip(self.value, self.low, self.high, strict=True)]


@dataclass(frozen=True, eq=False)
class Difference(Interval):
    """Second minus first; ``p`` is the two-sided bootstrap p-value [m], at least 1 / (resamples + 1)."""

    p: Floats


def interval(values: Floats, *, seed: int, users: Ints | None = None, resamples: int = RESAMPLES) -> Interval:
    """Interval of the mean over queries.

    Args:
        values: [Q, m] for one run, or [S, Q, m] for S seeds: one value a query and column.
        seed: of the resampling; equal seeds draw equal users.
        users: whose query each is, [Q]; a user's queries are drawn together. None where each has one.
        resamples: how many.
    """
    runs = values[None] if values.ndim == 2 else values
    mean = runs.mean(axis=(0, 1))
    sums, sizes = _by_user(runs, users)
    if len(sizes) < 2:
        return Interval(mean, np.full_like(mean, np.nan), np.full_like(mean, np.nan))
    low, high = np.percentile(_resample([sums], sizes, seed, resamples)[0], (2.5, 97.5), axis=0)
    return Interval(mean, low, high)


def difference(first: Floats, second: Floats, *, seed: int, users: Ints | None = None, resamples: int = RESAMPLES) -> Difference:
    """Paired comparison: the interval of ``second - first`` over the same queries.

    Args:
        first: [Q, m] or [S, Q, m].
        second: [Q, m] or [S', Q, m]; the two may have different numbers of seeds.
        seed: of the resampling.
        users: as in ``interval``.
        resamples: how many.
    """
    pair = [x[None] if x.ndim == 2 else x for x in (first, second)]
    if pair[0].shape[1:] != pair[1].shape[1:]:
        raise ValueError(f"want equal queries and columns to pair, found {pair[0].shape} and {pair[1].shape}")
    value = pair[1].mean(axis=(0, 1)) - pair[0].mean(axis=(0, 1))
    summed = [_by_user(arm, users) for arm in pair]
    sizes = summed[0][1]
    if len(sizes) < 2:
        nan = np.full_like(value, np.nan)
        return Difference(value, nan, nan, nan)
    means = _resample([sums for sums, _ in summed], sizes, seed, resamples)
    drawn = means[1] - means[0]
    low, high = np.percentile(drawn, (2.5, 97.5), axis=0)
    tail = np.minimum((drawn <= 0).sum(axis=0), (drawn >= 0).sum(axis=0))
    return Difference(value, low, high, np.minimum(1.0, 2.0 * (tail + 1) / (resamples + 1)))


def _by_user(runs: Floats, users: Ints | None) -> tuple[Floats, Floats]:
    """Sums of each user's queries, [S, U, m], and how many there are, [U]."""
    if users is None:
        return runs, np.ones(runs.shape[1])
    _, number, sizes = np.unique(users, return_inverse=True, return_counts=True)
    if len(sizes) == runs.shape[1]:
        return runs, np.ones(runs.shape[1])
    sums = np.zeros((len(runs), len(sizes), runs.shape[2]))
    for total, run in zip(sums, runs, strict=True):
        np.add.at(total, number, run)
    return sums, sizes.astype(np.float64)


def _resample(arms: Sequence[Floats], sizes: Floats, seed: int, resamples: int) -> list[Floats]:
    """Means [resamples, m] of each arm [S, U, m]: the same users for all arms, seeds drawn for each arm apart."""
    rng = np.random.default_rng((seed, 0))
    seeds = np.random.default_rng((seed, 1))
    shares = [_counts(seeds, len(arm), resamples) / len(arm) for arm in arms]
    out = [np.zeros((resamples, arm.shape[2])) for arm in arms]
    for lo, counts in _chunks(rng, len(sizes), resamples):
        hi = lo + len(counts)
        drawn = (counts @ sizes)[:, None]
        for arm, share, means in zip(arms, shares, out, strict=True):
            for s in range(len(arm)):
                means[lo:hi] += share[lo:hi, s, None] * (counts @ arm[s]) / drawn
    return out


def _chunks(rng: np.random.Generator, users: int, resamples: int) -> Iterator[tuple[int, Floats]]:
    size = max(1, _CHUNK_BYTES // (8 * users))
    for lo in range(0, resamples, size):
        yield lo, _counts(rng, users, min(size, resamples - lo))


def _counts(rng: np.random.Generator, n: int, rows: int) -> Floats:
    """How often each of n things is drawn in n draws with replacement, [rows, n]."""
    drawn = rng.integers(0, n, size=(rows, n)) + np.arange(rows)[:, None] * n
    return np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n).astype(np.float64)
