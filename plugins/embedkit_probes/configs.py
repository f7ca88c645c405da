"""Options of the probes. No torch here."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from embedkit.component import Config
from embedkit.config.references import FieldName, TowerName

Control = Literal["raw", "untrained", "boosted_tree"]


class ProbeConfig(Config):
    """Options that the probes share."""

    label: FieldName
    """Field that is predicted; its role must be ``label``, so that no tower reads it."""
    tower: TowerName
    """Tower whose embeddings are probed."""
    task: Literal["classification", "regression"] = "classification"
    """``classification`` for a category: accuracy, macro F1 and AUC; ``regression`` for a number: RMSE and R²."""
    controls: list[Control] = ["raw", "untrained", "boosted_tree"]
    """What is measured beside the model: ``raw``, the same probe on one-hot and standardised columns of the tower; ``untrained``, the same
    probe on the model as it was before training; ``boosted_tree``, boosted trees on the columns."""
    max_train: int | None = Field(None, ge=2)
    """Fit on at most so many train rows, drawn at random; all of them when left out."""

    @property
    def names(self) -> tuple[str, ...]:
        """The figures of the task."""
        return ("accuracy", "macro_f1", "auc") if self.task == "classification" else ("rmse", "r2")


class LinearProbeConfig(ProbeConfig):
    """Options of ``linear_probe``."""

    penalties: list[Annotated[float, Field(gt=0)]] = Field([1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6], min_length=1)
    """L2 penalties to choose from, relative to the mean loss a row. All models choose from the same."""


class KnnProbeConfig(ProbeConfig):
    """Options of ``knn_probe``."""

    neighbors: list[Annotated[int, Field(ge=1)]] = Field([5, 10, 20, 50], min_length=1)
    """Numbers of neighbours to choose from. All models choose from the same."""


class GbdtProbeConfig(ProbeConfig):
    """Options of ``gbdt_probe``."""

    iterations: list[Annotated[int, Field(ge=1)]] = Field([25, 50, 100, 200], min_length=1)
    """Numbers of boosting rounds to choose from. All models choose from the same."""
    learning_rate: float = Field(0.1, gt=0)
    """Shrinkage of each round."""
