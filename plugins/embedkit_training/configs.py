"""Options of the samplers and optimisers. No torch here."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from embedkit.component import Config
from embedkit.config.model import Scheduled

Kind = Literal["matrix", "vector", "table"]


class ShuffleConfig(Config):
    """Options of ``shuffle``."""

    drop_last: bool = False
    """Leave out the last batch of an epoch when it is smaller than the others."""


class BucketedConfig(ShuffleConfig):
    """Options of ``bucketed``."""

    stretch: int = Field(50, ge=1)
    """Batches that are sorted together: the more, the less padding, and the less mixed the batches."""


class UniformConfig(Config):
    """Options of ``uniform``."""


class PopularityConfig(Config):
    """Options of ``popularity``."""

    power: float = Field(1.0, ge=0)
    """Chance of a row: its train events to this power. 1 draws as events do, 0.75 as word2vec, 0 every row that has an event alike."""


class AdamWConfig(Config):
    """Options of ``adamw``."""

    lr: Scheduled = 1e-3
    """Learning rate."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay rates of the running means of the gradient and of its square."""
    eps: float = Field(1e-8, gt=0)
    """Added to the root of the second moment."""
    weight_decay: Scheduled = 0.01
    """Decoupled weight decay."""
    decay_on: tuple[Kind, ...] = ("matrix",)
    """Which parameters decay: ``matrix`` (two or more dimensions), ``vector`` (biases, norms), ``table`` (embedding tables)."""


class SGDConfig(Config):
    """Options of ``sgd``."""

    lr: Scheduled = 0.1
    """Learning rate."""
    momentum: float = Field(0.0, ge=0, lt=1)
    """Momentum; zero keeps no state."""
    nesterov: bool = False
    """Look ahead by one momentum step."""
    weight_decay: Scheduled = 0.0
    """Weight decay, added to the gradient."""
    decay_on: tuple[Kind, ...] = ("matrix",)
    """Which parameters decay: ``matrix`` (two or more dimensions), ``vector`` (biases, norms), ``table`` (embedding tables)."""


class RowwiseAdagradConfig(Config):
    """Options of ``rowwise_adagrad``."""

    lr: Scheduled = 0.05
    """Learning rate."""
    eps: float = Field(1e-8, gt=0)
    """Added to the root of the accumulator."""
    initial_accumulator: float = Field(0.0, ge=0)
    """Where each row's accumulator starts."""
