"""Embedding tables, one a domain or one for all fields, and the heads that give embeddings their width."""

from __future__ import annotations

from collections.abc import Callable

from embedkit import hookimpl


@hookimpl
def register_encoders(register: Callable[..., None]) -> None:
    """Tables of embeddings."""
    register(
        "embedding",
        "embedkit_unified.embedding:Embedding",
        config="embedkit_unified.configs:EmbeddingConfig",
        summary="One table row for each value of a domain.",
    )
    register(
        "unified_embedding",
        "embedkit_unified.unified:UnifiedEmbedding",
        config="embedkit_unified.configs:UnifiedEmbeddingConfig",
        summary="Hashed tables of a budget of rows that all fields share (Coleman et al. 2023), and other ways to spend it.",
    )


@hookimpl
def register_heads(register: Callable[..., None]) -> None:
    """Pooled vector → embedding."""
    register(
        "linear",
        "embedkit_unified.heads:Linear",
        config="embedkit_unified.configs:LinearConfig",
        summary="A projection, or nothing at all.",
    )
    register(
        "matryoshka",
        "embedkit_unified.heads:Matryoshka",
        config="embedkit_unified.configs:MatryoshkaConfig",
        summary="A projection whose prefixes are embeddings too (Kusupati et al. 2022).",
    )
    register(
        "mlp",
        "embedkit_unified.mlp:Mlp",
        config="embedkit_unified.configs:MlpHeadConfig",
        summary="A perceptron, for a tower that predicts a label.",
    )
