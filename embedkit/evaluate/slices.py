"""Slices: which relevant items a figure is restricted to.

A slice keeps some relevant items and drops the queries that have none of them; ranks stay those of the full ranking.
So a query with popular and rare targets counts in both slices, each time with its own number of relevant items.
"""

from __future__ import annotations

import numpy as np

from embedkit.evaluate.metrics import Bools, Ints

HISTORY_EDGES = (1, 5, 20, 100)
"""Lower ends of the history buckets: 0, 1-4, 5-19, 20-99, 100+."""


def popularity(frequencies: Ints, targets: Ints) -> dict[str, Bools]:
    """``head``, ``mid``, ``tail``: the most, the less and the least frequent items, each with a third of the train
    events.

    Items without a train event belong to none of them (they are ``cold``). A boundary never runs through items of
    equal frequency.

    Args:
        frequencies: train events of each item, [M].
        targets: item row of each relevant item, [R]; -1 where it is not in the item table.
    """
    seen = np.sort(frequencies[frequencies > 0])[::-1]
    if not len(seen):
        return {name: np.zeros(len(targets), bool) for name in ("head", "mid", "tail")}
    before = np.cumsum(seen) - seen
    total = int(seen.sum())
    head_from, mid_from = (int(seen[before * 3 < share * total][-1]) for share in (1, 2))
    count = _frequency(frequencies, targets)
    return {
        "head": count >= head_from,
        "mid": (count >= mid_from) & (count < head_from),
        "tail": (count > 0) & (count < mid_from),
    }


def cold(frequencies: Ints, targets: Ints) -> dict[str, Bools]:
    """``yes``: items without a train event, those missing from the item table too; ``no``: the others."""
    unseen = _frequency(frequencies, targets) == 0
    return {"yes": unseen, "no": ~unseen}


def tail(frequencies: Ints, targets: Ints, most: int = 5) -> dict[str, Bools]:
    """``1-5``: items with at least one and at most ``most`` train events."""
    count = _frequency(frequencies, targets)
    return {f"1-{most}": (count > 0) & (count <= most)}


def short(lengths: Ints, offsets: Ints, most: int = 5) -> dict[str, Bools]:
    """``0-5``: queries whose history holds at most ``most`` events. Arguments as of ``history``."""
    return {f"0-{most}": np.repeat(lengths <= most, np.diff(offsets))}


def history(lengths: Ints, offsets: Ints) -> dict[str, Bools]:
    """By the number of events in the query's history: ``0``, ``1-4``, ``5-19``, ``20-99``, ``100+``.

    Args:
        lengths: history events a query, [Q].
        offsets: of the relevant items, [Q + 1].
    """
    bucket = np.repeat(np.searchsorted(np.asarray(HISTORY_EDGES), lengths, side="right"), np.diff(offsets))
    ends = (*HISTORY_EDGES[1:], None)
    names = ["0", *(f"{lo}-{hi - 1}" if hi else f"{lo}+" for lo, hi in zip(HISTORY_EDGES, ends, strict=True))]
    return {name: bucket == i for i, name in enumerate(names)}


def _frequency(frequencies: Ints, targets: Ints) -> Ints:
    """Train events of each target; 0 where the target is not in the table."""
    if not len(frequencies):
        return np.zeros(len(targets), np.int64)
    return np.where(targets >= 0, frequencies[np.maximum(targets, 0)], 0)
