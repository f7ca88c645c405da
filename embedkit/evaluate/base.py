"""Evaluator and Estimate: how a component reports figures with intervals."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch

from embedkit.component import Component, Config

if TYPE_CHECKING:
    import polars as pl

    from embedkit.data.store import Store
    from embedkit.nn.model import Model


@dataclass(frozen=True)
class Estimate:
    """One figure.

    Attributes:
        metric: such as ``ndcg@10``.
        value: the figure.
        low: lower bound of the 95% interval; None where none was asked for.
        high: upper bound.
        n: what was resampled: queries, rows.
        model: ``model``, or the baseline's name.
        slice: such as ``popularity:tail``; None for all.
        evaluator: name of the ``[[evaluate]]`` entry.
        prefix: first numbers of the embeddings that were compared; None for all of them.
    """

    metric: str
    value: float
    low: float | None
    high: float | None
    n: int
    model: str = "model"
    slice: str | None = None
    evaluator: str = ""
    prefix: int | None = None


@dataclass(frozen=True)
class EvaluateContext:
    """What an evaluator is given.

    Attributes:
        model: in eval mode, on ``device``.
        store: the opened tables with their fitted codecs.
        split: ``valid`` or ``test``.
        quick: True while training: no intervals, slices or baselines, at most ``max_queries`` queries.
        save_table: keeps a table of per-query figures beside the run (name, frame); ``embedkit compare`` reads it.
        seed: of ties and resampling.
    """

    model: Model
    store: Store
    split: Literal["valid", "test"]
    device: torch.device
    seed: int
    save_table: Callable[[str, pl.DataFrame], Any]
    quick: bool = False
    max_queries: int | None = None
    precision: torch.dtype = torch.float32


class Evaluator(Component):
    """Base of evaluators; ``context`` of the constructor is None, ``run`` gets the ``EvaluateContext``."""

    @classmethod
    @abstractmethod
    def metrics(cls, config: Config) -> tuple[str, ...]:
        """Names of the figures it will report, so that ``validate.metric`` can be checked before training."""

    @abstractmethod
    def run(self, context: EvaluateContext) -> list[Estimate]:
        """Measure."""
