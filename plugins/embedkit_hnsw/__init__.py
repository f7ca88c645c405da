"""First-party plugin: nearest-neighbour indexes, approximate (hnswlib) and exact."""

from __future__ import annotations

from typing import Any

from embedkit import hookimpl


@hookimpl
def register_indexes(register: Any) -> None:
    """Register ``hnsw`` and ``exact``."""
    register(
        "hnsw",
        "embedkit_hnsw.hnsw:HnswIndex",
        config="embedkit_hnsw.configs:HnswConfig",
        summary="A hierarchical navigable small-world graph.",
    )
    register(
        "ivf_hnsw",
        "embedkit_hnsw.ivf:IvfHnswIndex",
        config="embedkit_hnsw.configs:IvfHnswConfig",
        summary="A graph for each cell of near vectors: building grows no faster than the catalogue.",
    )
    register(
        "exact",
        "embedkit_hnsw.exact:ExactIndex",
        config="embedkit_hnsw.configs:ExactConfig",
        summary="Every vector, compared with exactly.",
    )
