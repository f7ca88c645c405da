"""Options of the maskings and losses that learn from rows without labels. No torch here."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from embedkit.component import Config
from embedkit.config.references import FieldName, TowerName, ViewName

Share = Annotated[float, Field(gt=0, lt=1)]
Error = Literal["mse", "smooth_l1"]


class CellsConfig(Config):
    """Options that maskings of cells share."""

    fields: list[FieldName] | None = None
    """Fields whose cells are dealt with. Left out: those of ``tower``, or all features of the stream's table that its batches hold; the key
    only when named here."""
    tower: TowerName | None = None
    """Deal with this tower's fields."""


class JepaMasksConfig(CellsConfig):
    """Options of ``jepa_masks``."""

    context: tuple[Share, Share] = (0.15, 0.4)
    """Least and greatest share of the fields that the view shows; the number is drawn anew for each batch, at least one."""
    target: tuple[Share, Share] = (0.15, 0.6)
    """Least and greatest share of the fields in one target; drawn anew for each batch, and cut to what the context leaves."""
    targets: int = Field(4, ge=1)
    """Targets a row, which may overlap each other."""
    positions: Literal["row", "batch"] = "row"
    """Draw which fields those are for each row, or once for all rows of a batch."""

    @model_validator(mode="after")
    def _ascending(self) -> JepaMasksConfig:
        for name, (low, high) in (("context", self.context), ("target", self.target)):
            if low > high:
                raise ValueError(f"{name} = [{low}, {high}]: the first share must not be above the second")
        return self


class CellMaskingConfig(CellsConfig):
    """Options of ``cell_masking``."""

    share: float = Field(0.3, gt=0, lt=1)
    """Each cell is hidden with this probability."""


class TJepaConfig(Config):
    """Options of ``t_jepa``."""

    tower: TowerName
    """Tower of both sides; its trunk's tokens are what is predicted."""
    context: ViewName
    """View that ``jepa_masks`` made: what the student sees, and which fields it must predict."""
    target: ViewName | None = None
    """Stream or view that the teacher sees whole; the stage's first stream when left out."""
    network: str = "teacher"
    """Network that gives the targets, of kind ``ema``; ``student`` for the student itself, without gradient."""
    error: Error = "mse"
    """Squared error, or smooth L1, which is linear beyond an error of one."""
    normalize: Literal["token", "batch", "none"] = "token"
    """``token``: bring each target to mean zero and variance one over its width, so that the student cannot win by making tokens small.
    ``batch``: each number of a feature's target over the rows of the batch instead, so that what all rows share wins nothing either."""
    width: int | None = Field(None, ge=1)
    """Width of the predictor; half of the model's dim when left out."""
    layers: int = Field(2, ge=1)
    """Depth of the predictor."""
    heads: int = Field(4, ge=1)
    """Attention heads of the predictor; must divide its width."""
    hidden: int | None = Field(None, ge=1)
    """Width of the predictor's feed-forward layers; four times its width when left out."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Share of each predictor layer's outputs that is dropped while training."""


class MaskedCellsConfig(Config):
    """Options of ``masked_cells``."""

    tower: TowerName
    """Tower whose tokens the cells are told from."""
    view: ViewName
    """View in which cells are hidden and replaced, such as one of ``cell_masking``."""
    fields: list[FieldName] | None = None
    """Fields that are told; all categories and numbers of the tower but its key when left out."""
    error: Error = "mse"
    """Error of numbers, which are standardised: squared, or smooth L1."""
