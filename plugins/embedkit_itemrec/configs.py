"""Options of the loss and of the maskings. No torch here."""

from __future__ import annotations

from pydantic import Field

from embedkit.component import Config
from embedkit.config.model import Scheduled
from embedkit.config.references import FieldName, TowerName, ViewName


class SampledSoftmaxConfig(Config):
    """Options of ``sampled_softmax``."""

    query: TowerName
    """Tower of the queries."""
    target: TowerName
    """Tower of the targets."""
    view: ViewName | None = None
    """Stream or view that both towers look at; the stage's first stream when left out."""
    temperature: Scheduled = 0.05
    """What similarities are divided by."""
    correct_popularity: bool = True
    """Subtract the log of how often a target is drawn (logQ), from positives and negatives alike."""
    mask_hits: bool = True
    """Leave out of a row's negatives what is a copy of its positive."""
    max_candidates: int = Field(8192, ge=2)
    """At most so many of the batch's targets are candidates; drawn at random when there are more."""
    negatives: ViewName | None = None
    """A further stream or view of the target's table, drawn uniformly, whose rows are candidates of every query."""
    weight_by: FieldName | None = None
    """Field with ``role = "weight"``: how much each event counts; all alike when left out."""


class MaskingConfig(Config):
    """Options that the maskings share."""

    fields: list[FieldName] | None = None
    """Fields to deal out. Left out: those of ``tower``, or all features of the stream's table that its batches hold. The key, and text,
    take part in the draw only when named here."""
    tower: TowerName | None = None
    """Deal out this tower's fields."""
    value_dropout: float = Field(0.0, ge=0, lt=1)
    """After masking, each single value of a list field is left out with this probability, in each view on its own."""


class RandomMaskingConfig(MaskingConfig):
    """Options of ``random_masking``."""


class CorrelatedMaskingConfig(MaskingConfig):
    """Options of ``correlated_masking``."""


class FieldMaskingConfig(Config):
    """Options of ``field_masking``."""

    first: list[FieldName]
    """Fields that the first view hides."""
    second: list[FieldName] | None = None
    """Fields that the second view hides; left out when one view is made."""


class ValueDropoutConfig(Config):
    """Options of ``value_dropout``."""

    fields: list[FieldName] = Field(min_length=1)
    """List fields and histories that lose values."""
    share: float = Field(0.5, gt=0, lt=1)
    """Each value is left out with this probability, drawn anew for each batch."""
