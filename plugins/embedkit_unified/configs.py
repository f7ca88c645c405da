"""Options of the tables and heads. No torch here."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from embedkit.component import Config

Positive = Annotated[int, Field(ge=1)]
Kind = Literal["unified", "hashed", "per_field", "quotient_remainder", "frequency"]
Combine = Literal["multiply", "add", "concat"]


class TableConfig(Config):
    """What both table encoders know."""

    accepts: ClassVar[frozenset[str]] = frozenset({"category", "categories", "sequence"})
    pool_sequences: bool = False
    """Give a sequence one token, the mean of its values, in place of one token a value: much faster where the trunk averages anyway."""
    unknown_dropout: float = Field(0.0, ge=0, lt=1)
    """While training, read this share of the values as unknown, so that the unknown row learns to stand for values that come later."""
    append_hidden: bool = False
    """Put a token behind each sequence that stands for a hidden value, and which the trunk then reads a row from: what comes next, for
    models that are trained to tell hidden values."""


class EmbeddingConfig(TableConfig):
    """Options of ``embedding``."""

    init_std: float = Field(0.05, gt=0)
    """Standard deviation of the rows at the start; the unknown row starts at zero."""


class UnifiedEmbeddingConfig(TableConfig):
    """Options of ``unified_embedding``."""

    kind: Kind = "unified"
    """How values find their rows, always of the same budget. ``unified``: independent hashes into rows that all fields share. ``hashed``:
    one hash of a value picks rows side by side, so values meet in all of them or in none. ``per_field``: each domain hashes into a share
    of the rows, dealt by the sizes of their vocabularies. ``quotient_remainder``: shares too; the code's remainder and quotient pick a
    row each. ``frequency``: the most frequent values own rows, the others hash into the rest."""
    rows: int = Field(100_000, ge=1)
    """Rows of all tables together, whatever the kind."""
    tables: int = Field(1, ge=1)
    """unified: tables that the rows are dealt to; the lookups of a value go round them."""
    combine: Combine = "multiply"
    """quotient_remainder: how the two rows become one. ``concat`` reads half of the lookups from each."""
    head: int | None = Field(None, ge=0)
    """frequency: how many values own rows; as many as half of the rows hold when left out."""
    lookups: Positive | dict[str, Positive] = 2
    """Rows that a value reads, joined end to end: one number, or one for each field (2 for fields not named)."""
    width: int | None = Field(None, ge=1)
    """Numbers a row; the model's dim divided by the most lookups when left out."""
    project: bool = True
    """Map each field's lookups to the model's dim with weights of its own, which is what tells colliding fields apart. Without it,
    lookups times width must equal dim, and a trunk that keeps fields apart (mlp) must follow."""
    init_range: float = Field(0.05, gt=0)
    """Rows start uniform between minus and plus this."""

    @model_validator(mode="after")
    def _of_its_kind(self) -> UnifiedEmbeddingConfig:
        for option, kind in (("tables", "unified"), ("combine", "quotient_remainder"), ("head", "frequency")):
            if getattr(self, option) != type(self).model_fields[option].default and self.kind != kind:
                raise ValueError(f'\'{option}\' is for kind = "{kind}", and kind is "{self.kind}": leave it out')
        return self

    def lookups_of(self, field: str) -> int:
        """How many rows a value of this field reads."""
        return self.lookups if isinstance(self.lookups, int) else self.lookups.get(field, 2)


class LinearConfig(Config):
    """Options of ``linear``."""

    dim: int | None = Field(None, ge=1)
    """Embedding width; the trunk's when left out: the model's dim, or more where the trunk puts vectors side by side (``flatten``)."""
    bias: bool = True
    """Whether the projection adds a constant: it is what a row without any value is embedded as."""
    identity: bool = False
    """Take the trunk's vector as it is, without a projection; leave ``dim`` out then."""
    normalize: bool = True
    """Bring embeddings to unit length, to be compared by cosine; else they are compared by dot product."""


class MatryoshkaConfig(Config):
    """Options of ``matryoshka``."""

    dims: list[Positive] = Field(min_length=1)
    """Nested widths, ascending; the last one is the embedding's."""
    bias: bool = True
    """Whether the projection adds a constant."""
    identity: bool = False
    """Nest the trunk's vector as it is, without a projection; the last of dims must be its width then."""
    normalize: bool = True
    """Bring embeddings, and each prefix, to unit length."""

    @field_validator("dims")
    @classmethod
    def _ascending(cls, dims: list[int]) -> list[int]:
        if dims != sorted(set(dims)):
            raise ValueError(f"widths must ascend, got {dims}")
        return dims


class MlpHeadConfig(Config):
    """Options of ``mlp``."""

    dim: int | None = Field(None, ge=1)
    """Outputs; as many as the trunk gives when left out: the model's dim, or more where it puts vectors side by side (``flatten``)."""
    hidden: list[Positive] = [64]
    """Widths of the hidden layers."""
    activation: Literal["relu", "gelu", "silu"] = "relu"
    """Between layers."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Share of each hidden layer's outputs that is dropped while training."""
    normalize: bool = False
    """Bring outputs to unit length; predictions such as logits are taken as they are."""
