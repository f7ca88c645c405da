"""Options of the losses against labels and of the ``prediction`` evaluator. No torch here."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from embedkit.component import Config
from embedkit.config.references import FieldName, TowerName, ViewName

BaselineName = Literal["constant", "linear"]
TaskName = Literal["binary", "multiclass", "regression"]

FIGURES: dict[TaskName, tuple[str, ...]] = {
    "binary": ("auc", "log_loss", "average_precision", "calibration", "calibration_error"),
    "multiclass": ("accuracy", "macro_f1", "log_loss"),
    "regression": ("rmse", "mae", "r2"),
}
"""What is reported of each task."""


class LabelLossConfig(Config):
    """Options that the losses against labels share."""

    tower: TowerName
    """Tower that predicts; its head must not normalise (head ``linear`` with normalize = false)."""
    label: FieldName
    """Field with role ``label``. Rows without a label, or with one that training never saw, do not count."""
    weight_by: FieldName | None = None
    """Field with ``role = "weight"``: how much each row counts; all alike when left out."""
    view: ViewName | None = None
    """Stream or view that is predicted from; the stage's first stream when left out."""


class BinaryCrossEntropyConfig(LabelLossConfig):
    """Options of ``binary_cross_entropy``. The label is a number that is 0 or 1, or a category of two values."""

    positive: bool | int | float | str | None = None
    """The value that counts as 1, for category labels; the greater one when left out, which text labels must not."""


class CrossEntropyConfig(LabelLossConfig):
    """Options of ``cross_entropy``. The label is a category; the tower's width is the number of its values."""

    smoothing: float = Field(0.0, ge=0, lt=1)
    """Share of the target that is spread evenly over all classes."""


class SquaredErrorConfig(LabelLossConfig):
    """Options of ``squared_error``. The label is a number."""


class PredictionConfig(Config):
    """How well a tower predicts a label of its rows."""

    tower: TowerName
    """Tower that predicts: one logit (binary), one a class (multiclass), or one standardised number (regression)."""
    label: FieldName
    """Field with role ``label``, of the tower's table or of a table that it joins."""
    task: TaskName = "binary"
    """What the label is."""
    positive: bool | int | float | str | None = None
    """binary: as in the loss ``binary_cross_entropy``."""
    group: FieldName | None = None
    """Category field, such as a user: rows of one value are resampled together, as they resemble each other."""
    bins: int = Field(15, ge=1)
    """binary: bins of equally many rows that ``calibration_error`` compares."""
    baselines: list[BaselineName] | None = None
    """``constant``: the train rows' rate, most frequent class or mean. ``linear``: logistic or ridge regression on one-hot categories and
    standardised numbers, its strength tuned on the valid rows (needs scikit-learn). Left out: constant, and linear where scikit-learn is
    installed."""
    baseline_rows: int = Field(200_000, ge=1)
    """linear: fitted on at most so many train rows, drawn at random."""

    @property
    def names(self) -> tuple[str, ...]:
        """Every figure reported of the model."""
        return FIGURES[self.task]
