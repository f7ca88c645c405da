"""Watch: whether the embeddings that a self-supervised loss trains still tell rows apart, or have collapsed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from embedkit.nn.unit import unit
from embedkit.nn.values import Outputs

if TYPE_CHECKING:
    from embedkit.training.loss import Forward
    from embedkit.training.step import WeightedLoss

ROWS = 1024
"""Rows that are looked at."""
LOWEST = {"effective_rank": 0.2, "angle": 0.1, "std": 0.1}
"""Share of its value at the start below which a figure is alarming; ``angle`` is one minus the cosine."""


@dataclass(frozen=True)
class Spread:
    """How embeddings of different rows lie.

    Attributes:
        effective_rank: exponential of the entropy of the singular values' shares (Roy and Vetterli 2007), uncentred: 1 when all rows lie
            on one line through the origin, E when they fill all directions evenly.
        cosine: mean over pairs of different rows.
        std: standard deviation over rows, mean over the dimensions.
    """

    effective_rank: float
    cosine: float
    std: float

    @classmethod
    def of(cls, x: Tensor) -> Spread | None:
        """Of embeddings [B, E], of the first ``ROWS`` rows; None for fewer than two, and where a number is not finite."""
        x = x.detach()[:ROWS].double()
        rows = x.shape[0]
        if rows < 2 or not bool(x.isfinite().all()):
            return None
        directions = unit(x).double()
        total = directions.sum(0).square().sum() - directions.square().sum()
        return cls(_effective_rank(x), float(total / (rows * (rows - 1))), float(x.std(0, correction=0).mean()))

    def figures(self) -> dict[str, float]:
        """What ``LOWEST`` speaks of: each falls when rows become alike."""
        return {"effective_rank": self.effective_rank, "angle": 1.0 - self.cosine, "std": self.std}


class RunsForwards(Protocol):
    """As much of a step as is looked at."""

    def run(self, view: str, tower: str, network: str = "student", layers: tuple[int, ...] = ()) -> Outputs:
        """The outputs of a forward that has run."""


class Watch:
    """The forwards that some losses want watched, how they were at the start, and what was warned of."""

    def __init__(self, losses: Sequence[WeightedLoss]) -> None:
        self._forwards = {_label(forward): forward for weighted in losses for forward in weighted.loss.watch}
        self._start: dict[str, dict[str, float]] = {}
        self._warned: list[str] = []

    def begin(self, step: RunsForwards) -> None:
        """Take the first step's figures for the start, unless they are known."""
        for name, spread in self._spreads(step).items() if not self._start else ():
            self._start[name] = spread.figures()

    def see(self, step: RunsForwards) -> tuple[dict[str, dict[str, float]], list[str]]:
        """The figures of a step by ``tower@view``, and a sentence for each that has fallen and was not warned of before."""
        found = self._spreads(step)
        warnings = [line for name, spread in found.items() for line in self._fallen(name, spread)]
        return {name: asdict(spread) for name, spread in found.items()}, warnings

    def _spreads(self, step: RunsForwards) -> dict[str, Spread]:
        found = {}
        for name, forward in self._forwards.items():
            spread = Spread.of(step.run(forward.view, forward.tower, forward.network).embedding)
            if spread is not None:
                found[name] = spread
        return found

    def _fallen(self, name: str, spread: Spread) -> list[str]:
        start = self._start.get(name, {})
        fallen = [
            f for f, now in spread.figures().items() if f in start and now < LOWEST[f] * start[f] and f"{name}/{f}" not in self._warned
        ]
        self._warned += [f"{name}/{figure}" for figure in fallen]
        if not fallen:
            return []
        said = " and ".join(_said(figure, spread, start[figure]) for figure in fallen)
        return [
            f"warning: {name}: {said}: embeddings of different rows become alike (collapse); "
            "try a lower lr or a longer warmup, a slower teacher, or another loss beside this one"
        ]

    def state_dict(self) -> dict[str, Any]:
        """The start, and what was warned of."""
        return {"start": self._start, "warned": self._warned}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take what ``state_dict`` returned."""
        self._start, self._warned = {name: dict(figures) for name, figures in state["start"].items()}, list(state["warned"])


def _effective_rank(x: Tensor) -> float:
    """From the smaller Gram matrix: its eigenvalues are the squares of the singular values."""
    gram = x.T @ x if x.shape[0] >= x.shape[1] else x @ x.T
    values = torch.linalg.eigvalsh(gram).clamp(min=0).sqrt()
    total = values.sum()
    if not float(total):
        return 1.0
    share = values / total
    return math.exp(float(torch.special.entr(share).sum()))


def _label(forward: Forward) -> str:
    return f"{forward.tower}@{forward.view}" + ("" if forward.network == "student" else f" ({forward.network})")


def _said(figure: str, spread: Spread, start: float) -> str:
    if figure == "angle":
        return f"the mean cosine rose to {spread.cosine:.3f} from {1.0 - start:.3f}"
    if figure == "effective_rank":
        return f"the effective rank fell to {spread.effective_rank:.1f} from {start:.1f}"
    return f"the standard deviation fell to {spread.std:.3g} from {start:.3g}"
