"""Options of the encoders of numbers and times, and of the row trunks. No torch here."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from embedkit.component import Config

Positive = Annotated[int, Field(ge=1)]
Activation = Literal["relu", "gelu", "silu"]


class NumberEncoderConfig(Config):
    """Options of ``number``."""

    accepts: ClassVar[frozenset[str]] = frozenset({"number"})
    kind: Literal["linear", "piecewise_linear"] = "piecewise_linear"
    """``linear``: x * w + b. ``piecewise_linear``: how far x has come through each of some bins between train quantiles, then linear
    (Gorishniy et al. 2022): it can bend where the data lie."""
    bins: int = Field(32, ge=2)
    """piecewise_linear: at most so many bins a field."""


class TimestampEncoderConfig(Config):
    """Options of ``timestamp``: none."""

    accepts: ClassVar[frozenset[str]] = frozenset({"timestamp"})


class MlpConfig(Config):
    """Options of ``mlp``."""

    hidden: list[Positive] = [128]
    """Widths of the hidden layers; none makes it one linear map."""
    activation: Activation = "gelu"
    """Between layers."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Share of each hidden layer's outputs that is dropped while training."""
    residual: bool = True
    """Add the mean of the tokens to the result, so that the trunk starts out near a mean and learns what to add to it."""


class CrossConfig(Config):
    """Options of ``cross``."""

    layers: int = Field(2, ge=1)
    """Cross layers: each raises the order of the interactions by one."""
    rank: int | None = Field(None, ge=1)
    """Write each cross layer's matrix as the product of two of this inner width, far fewer numbers for wide rows; full when left out."""
    structure: Literal["parallel", "stacked"] = "parallel"
    """Where the deep part reads: beside the cross layers, or what comes out of them."""
    hidden: list[Positive] = [128]
    """Widths of the deep part's layers; none leaves the cross layers alone."""
    activation: Activation = "relu"
    """After each layer of the deep part."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Share of each deep layer's outputs that is dropped while training."""


class MeanConfig(Config):
    """Options of ``mean``."""

    norm: bool = False
    """Layer-normalise the mean."""


class AttentionConfig(Config):
    """Options of ``attention``."""

    heads: int = Field(4, ge=1)
    """Learned queries, each of which reads its part of the width; must divide the model's dim."""
