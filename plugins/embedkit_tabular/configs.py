"""Options of the encoders of numbers and times, and of the row trunks. No torch here."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from embedkit.component import Config

Positive = Annotated[int, Field(ge=1)]
Activation = Literal["relu", "gelu", "silu"]


class NumberEncoderConfig(Config):
    """Options of ``number``."""

    accepts: ClassVar[frozenset[str]] = frozenset({"number"})
    kind: Literal["linear", "piecewise_linear", "periodic"] = "piecewise_linear"
    """``linear``: x * w + b. ``piecewise_linear``: how far x has come through each of some bins between train quantiles, then linear
    (Gorishniy et al. 2022): it can bend where the data lie. ``periodic``: sines and cosines of learned frequencies, then linear and a
    ReLU (PLR of the same paper)."""
    bins: int = Field(32, ge=2)
    """piecewise_linear: at most so many bins a field."""
    frequencies: int = Field(48, ge=1)
    """periodic: frequencies a number."""
    sigma: float = Field(0.1, gt=0)
    """periodic: frequencies start normal with this standard deviation, in periods a standard deviation of the field: the larger, the finer
    the differences that the encoder starts out seeing."""


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


class ResNetOptions(Config):
    """What the trunk and the head ``resnet`` share."""

    layers: int = Field(2, ge=1)
    """Residual blocks."""
    hidden_factor: float = Field(2.0, gt=0)
    """Width of a block's hidden layer, as a multiple of ``width``."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Share of what a block adds that is dropped while training."""
    hidden_dropout: float = Field(0.2, ge=0, lt=1)
    """Share of a block's hidden layer that is dropped while training."""
    norm: Literal["batch", "layer"] = "batch"
    """Normalise over the rows of a batch, as published, or each row over its width."""


class ResNetConfig(ResNetOptions):
    """Options of the trunk ``resnet``."""

    width: int | None = Field(None, ge=1)
    """Width of the blocks; the model's dim when left out."""


class ResNetHeadConfig(ResNetOptions):
    """Options of the head ``resnet``."""

    dim: int | None = Field(None, ge=1)
    """Outputs; as many as the trunk's vector has when left out."""
    width: int = Field(128, ge=1)
    """Width of the blocks."""
    normalize: bool = False
    """Bring outputs to unit length; predictions such as logits are taken as they are."""


class FeatureTransformerConfig(Config):
    """Options of ``feature_transformer``."""

    layers: int = Field(2, ge=1)
    """Depth."""
    heads: int = Field(4, ge=1)
    """Attention heads; must divide the model's dim."""
    hidden: int | None = Field(None, ge=1)
    """Width of the feed-forward layers; four times the model's dim when left out."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Share of each layer's outputs that is dropped while training."""
    registers: int = Field(1, ge=0)
    """Learned tokens that are in every row and stand for no feature ([REG] of T-JEPA)."""
    pooling: Literal["register", "mean", "flatten"] = "mean"
    """What stands for a row: the first register, the mean of the features, or the features side by side (width times the number of fields;
    T-JEPA's downstream form, which wants an identity head or one that narrows it)."""
    init_std: float = Field(0.02, gt=0)
    """Standard deviation of the vectors of fields, types and registers at the start."""

    @model_validator(mode="after")
    def _register(self) -> FeatureTransformerConfig:
        if self.pooling == "register" and self.registers == 0:
            raise ValueError("pooling = 'register' reads the first register and registers is 0: set registers = 1, or another pooling")
        return self


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
