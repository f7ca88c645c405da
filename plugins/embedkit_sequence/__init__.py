"""Sequences: their field type, and trunks that read them in order."""

from __future__ import annotations

from collections.abc import Callable

from embedkit import hookimpl


@hookimpl
def register_field_types(register: Callable[..., None]) -> None:
    """Lists of ids in order."""
    register(
        "sequence",
        "embedkit_sequence.sequence:Sequence",
        config="embedkit_sequence.fields:SequenceOptions",
        summary="The ids of a list column, or of a user's earlier events, in order.",
    )


@hookimpl
def register_trunks(register: Callable[..., None]) -> None:
    """Trunks that read tokens in order."""
    register(
        "transformer",
        "embedkit_sequence.transformer:Transformer",
        config="embedkit_sequence.configs:TransformerConfig",
        summary="A pre-norm transformer, causal or bidirectional.",
    )
    register(
        "gru",
        "embedkit_sequence.gru:Gru",
        config="embedkit_sequence.configs:GruConfig",
        summary="Gated recurrent units over a sequence (GRU4Rec).",
    )


@hookimpl
def register_augmentations(register: Callable[..., None]) -> None:
    """Views of sequences."""
    register(
        "item_masking",
        "embedkit_sequence.item_masking:ItemMasking",
        config="embedkit_sequence.configs:ItemMaskingConfig",
        summary="A view that hides some values of sequences, to be told from the others (BERT4Rec).",
    )
