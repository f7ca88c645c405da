"""Numbers that change over a stage (decision 11)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from embedkit.config.model import Schedule
from embedkit.errors import UsageError


def as_steps(amount: int | str, total: int) -> int:
    """Optimiser steps that an amount such as ``200`` or ``"10%"`` means in a stage of ``total`` steps."""
    if isinstance(amount, str):
        return round(float(amount.rstrip("%")) / 100.0 * total)
    return amount


def peak(number: float | Schedule) -> float:
    """The number itself, or where its schedule is after the warm-up: what an optimiser is built with."""
    return number.from_ if isinstance(number, Schedule) else number


@dataclass(frozen=True)
class Clock:
    """Where a stage is.

    Attributes:
        step: optimiser steps done, counted from 0.
        total: optimiser steps of the whole stage.
    """

    step: int
    total: int

    @property
    def progress(self) -> float:
        """Share of the stage that is done, 0 to 1."""
        return self.step / self.total if self.total else 1.0

    def value(self, number: float | Schedule) -> float:
        """What a number is at this step.

        During a warm-up of W steps it is ``from * (step + 1) / W``, so that the first step is not lost; then it goes from ``from`` to
        ``to`` in the given shape until step ``over`` (counted from the start of the stage), and stays there.

        Raises:
            UsageError: an exponential schedule whose ends do not have one sign, or are zero.
        """
        if not isinstance(number, Schedule):
            return number
        warmup, over = as_steps(number.warmup, self.total), as_steps(number.over, self.total)
        if self.step < warmup:
            return number.from_ * (self.step + 1) / warmup
        share = min(1.0, (self.step - warmup) / max(1, over - warmup))
        if number.shape == "linear":
            return number.from_ + (number.to - number.from_) * share
        if number.shape == "cosine":
            return number.to + (number.from_ - number.to) * 0.5 * (1.0 + math.cos(math.pi * share))
        if number.from_ * number.to <= 0.0:
            raise UsageError(
                f"an exponential schedule cannot go from {number.from_:g} to {number.to:g}: both must be above zero "
                "(or both below); give a small number instead of zero, or use shape = 'linear'"
            )
        return float(number.from_ * (number.to / number.from_) ** share)
