"""Options of the trunks that read tokens in order. No torch here."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from embedkit.component import Config
from embedkit.config.references import FieldName


class TransformerConfig(Config):
    """Options of ``transformer``."""

    layers: int = Field(2, ge=1)
    """Depth."""
    heads: int = Field(2, ge=1)
    """Attention heads; must divide the model's dim."""
    hidden: int | None = Field(None, ge=1)
    """Width of the feed-forward layers; four times the model's dim when left out."""
    causal: bool = True
    """Let a value of a sequence see only itself and earlier ones; needed for streams with ``rows = "windows"``."""
    positions: Literal["learned", "rotary"] = "learned"
    """``learned`` vectors, one a position; ``rotary``: queries and keys of sequences are turned by their position, so that how far apart
    two values are is what counts, and no length is built in."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Share of the inputs, and of each layer's outputs, that is dropped while training."""
    pooling: Literal["last", "mean", "query"] = "last"
    """Which vector stands for a row: the state of the last value of its first sequence field, the mean of all states, or a mean weighted
    by a learned query (not for windows)."""
    max_length: int | None = Field(None, ge=1)
    """Learned positions a field may have; the field's own max_length when left out."""


class GruConfig(Config):
    """Options of ``gru``."""

    layers: int = Field(1, ge=1)
    """Depth."""
    hidden: int | None = Field(None, ge=1)
    """Width of the state; the model's dim when left out."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Share of the inputs, and of what passes between layers, that is dropped while training."""


class ItemMaskingConfig(Config):
    """Options of ``item_masking``."""

    fields: list[FieldName] = Field(min_length=1)
    """Sequences whose values are hidden."""
    share: float = Field(0.2, gt=0, lt=1)
    """Each value is hidden with this probability; where none of a row would be, one is."""
    last: float = Field(0.1, ge=0, le=1)
    """Share of the rows in which only the last value is hidden, as when the next item is asked for."""
