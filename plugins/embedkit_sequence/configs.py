"""Options of the trunks that read tokens in order. No torch here."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from embedkit.component import Config


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
    dropout: float = Field(0.1, ge=0, lt=1)
    """Share of the inputs, and of each layer's outputs, that is dropped while training."""
    pooling: Literal["last", "mean", "query"] = "last"
    """Which vector stands for a row: the state of the last value of its first sequence field, the mean of all states, or a mean weighted
    by a learned query (not for windows)."""
    max_length: int | None = Field(None, ge=1)
    """Positions a field may have; the field's own max_length when left out."""
