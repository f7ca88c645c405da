"""Options of the indexes. No numpy, no torch."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from embedkit.index.config import IndexConfig


class ExactConfig(IndexConfig):
    """Options of ``exact``."""


class HnswConfig(IndexConfig):
    """Options of ``hnsw`` (Malkov and Yashunin 2018; names as there)."""

    searching: ClassVar[frozenset[str]] = IndexConfig.searching | {"ef"}

    m: int = Field(16, ge=2, le=256)
    """Links a vector has in each layer (twice as many in the lowest); more find more and take more memory."""
    ef_construction: int = Field(200, ge=4)
    """Candidates looked at while a vector is linked."""
    ef: int = Field(100, ge=1)
    """Candidates looked at while searching, at least k; more find more and take longer."""
    deterministic: bool = False
    """Build on one thread, so that equal vectors give an equal graph."""
    seed: int = Field(100, ge=0)
    """Seed of the layers that vectors are put in."""


class IvfHnswConfig(HnswConfig):
    """Options of ``ivf_hnsw``: those of the graphs of ``hnsw``, and how many there are."""

    searching: ClassVar[frozenset[str]] = HnswConfig.searching | {"nprobe"}

    cell: int = Field(100_000, ge=1)
    """Vectors in a cell, about; at most twice as many. A catalogue that fits into one is one graph."""
    nprobe: int = Field(12, ge=1)
    """Cells that a search looks into; more find more and take longer."""
