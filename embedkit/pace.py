"""How far long work is, said every few seconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

EVERY = 5.0
"""Seconds between two lines."""


class TimeLeft:
    """Seconds that the rest of some work takes, from the pace since its start."""

    def __init__(self, start: int, total: int) -> None:
        self._start, self._total, self._since = start, total, time.monotonic()

    def __call__(self, done: int) -> float:
        """Seconds left when ``done`` are done."""
        since = max(1, done - self._start)
        return (time.monotonic() - self._since) / since * (self._total - done)


class Pace:
    """Tells of work on many things of one kind, such as the rows of a catalogue: how many are done, how fast, and how long the rest takes.

    Args:
        log: called with each line.
        total: things there are.
        what: they are, in the plural.
    """

    def __init__(self, log: Callable[[str], Any], total: int, what: str = "rows") -> None:
        self._log, self._total, self._what = log, total, what
        self._since = self._said = time.monotonic()
        self._left = TimeLeft(0, total)

    def __call__(self, done: int) -> None:
        """Say how many are done, where that is all of them or the last line was some seconds ago."""
        now = time.monotonic()
        if done >= self._total or now - self._said > EVERY:
            self._said = now
            self._log(self.text(done))

    def text(self, done: int) -> str:
        """``600 of 1,000 rows, 120 rows/s, 0:03 left``."""
        speed = done / max(1e-9, time.monotonic() - self._since)
        return f"{done:,} of {self._total:,} {self._what}, {speed:,.0f} {self._what}/s, {clock_text(self._left(done))} left"


def clock_text(seconds: float) -> str:
    """``1:02:03`` or ``2:03``."""
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{left:02d}" if hours else f"{minutes}:{left:02d}"
