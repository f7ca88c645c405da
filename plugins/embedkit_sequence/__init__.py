"""Sequences: their field type, and trunks that read them in order."""

from __future__ import annotations

from collections.abc import Callable

from embedkit import hookimpl


@hookimpl
def register_trunks(register: Callable[..., None]) -> None:
    """Trunks that read tokens in order."""
    register(
        "transformer",
        "embedkit_sequence.transformer:Transformer",
        config="embedkit_sequence.configs:TransformerConfig",
        summary="A pre-norm transformer, causal or bidirectional.",
    )
