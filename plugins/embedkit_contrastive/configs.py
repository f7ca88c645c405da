"""Options of the contrastive losses and of their views. No torch here."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from embedkit.component import Config
from embedkit.config.model import Scheduled
from embedkit.config.references import FieldName, TowerName, ViewName

Widths = list[Annotated[int, Field(ge=1)]]


class InfoNCEConfig(Config):
    """Options of ``info_nce``."""

    tower: TowerName
    """Tower of both views."""
    views: tuple[ViewName, ViewName]
    """The two views."""
    temperature: Scheduled = 0.1
    """What similarities are divided by."""
    symmetric: bool = True
    """Take the mean of both directions; False: the first view asks, the second answers (Yao et al. 2021)."""
    projector: Widths = []
    """Widths of a perceptron between the embedding and the loss, which is dropped after training (SimCLR, Chen et al. 2020, section 2.1);
    none compares embeddings themselves."""


class BarlowTwinsConfig(Config):
    """Options of ``barlow_twins``."""

    tower: TowerName
    """Tower of both views."""
    views: tuple[ViewName, ViewName]
    """The two views."""
    redundancy: Scheduled = 0.0078125
    """Weight of the correlations between different numbers (lambda)."""
    projector: Widths = [256, 256]
    """Widths of the perceptron between the embedding and the loss, which is dropped after training; none takes the embedding itself."""
    unit_length: bool = False
    """Bring projections to unit length before they are standardised, as the paper's runs on small images do."""


class MixedBarlowTwinsConfig(BarlowTwinsConfig):
    """Options of ``mixed_barlow_twins``."""

    mixed: ViewName
    """View that ``mixup`` made of the first view and the second."""
    mixed_scale: Scheduled = 4.0
    """Weight of the mixed term, times ``redundancy``."""


class CorruptionConfig(Config):
    """Options of ``corruption``."""

    share: float = Field(0.6, gt=0, le=1)
    """Each cell is replaced with this probability."""
    fields: list[FieldName] | None = None
    """Fields whose cells may be replaced; all features of the stream's table but its key when left out."""


class MixupConfig(Config):
    """Options of ``mixup``."""

    other: ViewName
    """The view that is mixed in, its rows permuted; of the same stream as ``of``."""
    alpha: float = Field(1.0, gt=0)
    """The share of the first view is drawn from Beta(alpha, alpha), once a batch."""
