"""What recommendations are like, whether or not they are right: how well known the items are and how evenly they are shown."""

from __future__ import annotations

import numpy as np

from embedkit.evaluate.metrics import Floats, Ints


def self_information(frequencies: Ints) -> Floats:
    """Novelty of each item in bits: ``-log2`` of its share of the train events, [M].

    Its mean over what is shown is the mean self-information of Zhou et al. (2010) and Castells et al. (2015), from memory. An item without
    a train event counts as one with one, so that it is novel and not infinitely so.
    """
    counts: Floats = np.maximum(frequencies.astype(np.float64), 1.0)
    bits: Floats = -np.log2(counts / counts.sum())
    return bits


def popularity_bias(shown: Floats, history: Floats) -> float:
    """How much more popular recommendations are than what their users chose: 1 is none, 2 twice as popular.

    The mean popularity of what is shown over the mean popularity of the histories, each first over a user's items and then over users:
    ``GAP_q / GAP_p`` of Abdollahpouri et al. (2019), whose group lift is this minus one (from memory). Queries that lack either are left
    out; NaN where none is left.

    Args:
        shown: mean popularity of what each query is shown, [Q]; NaN where it is shown nothing.
        history: mean popularity of the items of each query's history, [Q]; NaN where there are none.
    """
    both = ~(np.isnan(shown) | np.isnan(history))
    usual = float(history[both].mean()) if both.any() else 0.0
    return float(shown[both].mean()) / usual if usual > 0 else float("nan")


def gini(exposure: Ints) -> float:
    """Gini coefficient of how often each of the M candidates is shown: 0 where all are shown alike, near 1 where a few take all."""
    total, items = float(exposure.sum()), len(exposure)
    if not total:
        return float("nan")
    rank = np.arange(1, items + 1, dtype=np.float64)
    return float(((2 * rank - items - 1) * np.sort(exposure)).sum() / (items * total))


def mean_of(worth: Floats, items: tuple[Ints, Ints]) -> Floats:
    """Mean worth [M] of each query's items (values and offsets), [Q]; NaN where it has none."""
    values, offsets = items
    sums = np.concatenate(([0.0], np.cumsum(worth[values])))
    counts = np.diff(offsets)
    with np.errstate(invalid="ignore"):
        return np.where(counts > 0, (sums[offsets[1:]] - sums[offsets[:-1]]) / counts, np.nan)
