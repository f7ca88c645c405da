"""Interleaved timing: every side runs once a round, and only times of the same round are compared.

A machine that gets busier or warmer slows both sides of a round, so the ratio stays; means of separate runs would not.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

Side = Callable[[], Any]


@dataclass(frozen=True)
class Ratio:
    """Median, smallest and largest of the ratios of paired times."""

    median: float
    low: float
    high: float
    pairs: int

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


@dataclass(frozen=True)
class Times:
    """Seconds of each side, one a round."""

    seconds: Mapping[str, Sequence[float]]

    def median(self, side: str) -> float:
        return median(self.seconds[side])

    def ratio(self, side: str, other: str) -> Ratio:
        """How much longer ``side`` takes than ``other``."""
        found = [a / b for a, b in zip(self.seconds[side], self.seconds[other], strict=True)]
        return Ratio(median(found), min(found), max(found), len(found))


def interleave(sides: Mapping[str, Side], rounds: int, *, warm_up: int = 1, before: Mapping[str, Side] | None = None) -> Times:
    """Run every side once a round, in an order that turns from round to round.

    Args:
        sides: what is timed.
        rounds: pairs.
        warm_up: rounds that do not count.
        before: untimed preparation of a side, run just before it.
    """
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    names = list(sides)
    gc.collect()
    for number in range(-warm_up, rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            if before and name in before:
                before[name]()
            start = time.perf_counter()
            sides[name]()
            took = time.perf_counter() - start
            if number >= 0:
                seconds[name].append(took)
    return Times(seconds)


@dataclass(frozen=True)
class Goal:
    """A claim of the project and what was measured. ``met`` is None where nothing is promised."""

    what: str
    wanted: str
    found: str
    met: bool | None


@dataclass(frozen=True)
class Section:
    """A part of the report: prose, a table, and the goals that it answers."""

    title: str
    text: str
    header: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    goals: Sequence[Goal] = field(default_factory=tuple)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Section:
        return cls(**{**data, "goals": tuple(Goal(**goal) for goal in data["goals"])})


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:,.1f} ms"


def at_most(what: str, found: Ratio, limit: float) -> Goal:
    """A goal for a ratio."""
    return Goal(what, f"at most {limit:.2f}", str(found), found.median <= limit)
