"""Unit: a row range of one file, the grain of streaming, of resume and of sharing work between workers (decision 2)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

UNIT_ROWS = 65_536
"""Most rows a unit may have."""


@dataclass(frozen=True)
class Unit:
    """Rows ``start .. stop`` of a file (counted in the file), of which ``rows`` are in the table, from table row ``row0`` on.

    ``rows`` is smaller than ``stop - start`` where ``where`` or ``dedupe`` leave rows out.
    """

    file: str
    start: int
    stop: int
    row0: int
    rows: int


def cut(groups: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Row ranges of at most ``UNIT_ROWS`` rows over a file with row groups of the given sizes.

    A range is either whole row groups or a part of one, so that reading it never decodes a neighbour's row group.
    """
    start = stop = 0
    for size in groups:
        if stop > start and stop - start + size > UNIT_ROWS:
            yield start, stop
            start = stop
        if size <= UNIT_ROWS:
            stop += size
            continue
        end = stop + size
        for begin in range(stop, end, UNIT_ROWS):
            yield begin, min(begin + UNIT_ROWS, end)
        start = stop = end
    if stop > start:
        yield start, stop
