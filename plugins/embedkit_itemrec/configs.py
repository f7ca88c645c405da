"""Options of the loss and of the maskings. No torch here."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from embedkit.component import Config
from embedkit.config.model import Scheduled
from embedkit.config.references import FieldName, TowerName, ViewName


class PairConfig(Config):
    """Options that losses of queries and targets share."""

    query: TowerName
    """Tower of the queries."""
    target: TowerName
    """Tower of the targets."""
    view: ViewName | None = None
    """Stream or view that holds queries with their targets; the stage's first stream when left out."""
    weight_by: FieldName | None = None
    """Field with ``role = "weight"``: how much each event counts; all alike when left out."""


class SampledSoftmaxConfig(PairConfig):
    """Options of ``sampled_softmax``."""

    temperature: Scheduled = 0.05
    """What similarities are divided by."""
    correct_popularity: bool = True
    """Subtract the log of how often a target is drawn (logQ), from positives and negatives alike."""
    mask_hits: bool = True
    """Leave out of a row's negatives what is a copy of its positive."""
    in_batch: bool = True
    """Let the batch's other targets be candidates; without them ``negatives`` must name some."""
    max_candidates: int = Field(8192, ge=2)
    """At most so many of the batch's targets are candidates; drawn at random when there are more."""
    negatives: ViewName | None = None
    """A further stream or view of the target's table whose rows are candidates of every query. What its sampler draws is corrected for,
    whether ``uniform`` or ``popularity``."""

    @model_validator(mode="after")
    def _some(self) -> SampledSoftmaxConfig:
        if not self.in_batch and self.negatives is None:
            raise ValueError("in_batch = false leaves no candidates: name a stream of the target's table as 'negatives'")
        return self


class SoftmaxConfig(PairConfig):
    """Options of ``softmax``."""

    temperature: Scheduled = 0.07
    """What similarities are divided by."""
    candidates: Literal["all", "trained"] = "all"
    """``all`` rows of the target's table, or only those with a train event: what never was a target is then not pushed away either."""


class NegativesConfig(PairConfig):
    """Options of losses that compare each target with a stream of negatives."""

    negatives: ViewName
    """Stream or view of the target's table, such as one with the sampler ``uniform``; all its rows are negatives of every query."""
    temperature: Scheduled = 1.0
    """What similarities are divided by."""


class GbceConfig(NegativesConfig):
    """Options of ``gbce``."""

    calibration: float = Field(0.75, ge=0, le=1)
    """t: 0 is binary cross-entropy as it is, whose scores are too sure where few of many items are drawn; 1 takes all of that back."""


class BprConfig(NegativesConfig):
    """Options of ``bpr``."""


class MinedSoftmaxConfig(PairConfig):
    """Options of ``mined_softmax``."""

    temperature: Scheduled = 0.07
    """What similarities are divided by."""
    negatives: ViewName | None = None
    """Stream or view of the target's table, such as one with the sampler ``uniform``, whose rows are candidates besides the mined ones."""
    every: int = Field(500, ge=1)
    """Steps between two minings: each embeds the whole table and indexes it. Before the first, only ``negatives`` are candidates."""
    each: int = Field(4, ge=1)
    """Hard negatives that each query brings along; all queries of a step see all of them."""
    depth: int = Field(100, ge=1)
    """They are drawn from so many nearest items of the query."""
    skip: int = Field(0, ge=0)
    """Nearest items that are left out of these: the likeliest to be what the query wants next."""
    guard: float = Field(0.95, gt=0)
    """A mined item counts against a query only while its similarity is below this share of the target's: what is nearer is likelier a good
    answer that nobody took yet than a wrong one."""

    @model_validator(mode="after")
    def _deep(self) -> MinedSoftmaxConfig:
        if self.each > self.depth:
            raise ValueError(f"each = {self.each} cannot be drawn from depth = {self.depth} nearest items: raise depth")
        return self


class TowerEncoderConfig(Config):
    """Options of ``tower``."""

    accepts: ClassVar[frozenset[str]] = frozenset({"sequence", "category"})
    reads_tower: ClassVar[bool] = True

    tower: TowerName
    """Tower whose vectors stand for the ids, such as that of the items of a history."""
    append_hidden: bool = False
    """Put a token behind each sequence that stands for a hidden value; see ``embedding``."""


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
