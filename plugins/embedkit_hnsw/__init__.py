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
        "exact",
        "embedkit_hnsw.exact:ExactIndex",
        config="embedkit_hnsw.configs:ExactConfig",
        summary="Every vector, compared with exactly.",
    )
