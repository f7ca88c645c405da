"""Text: its field type and encoders."""

from __future__ import annotations

from collections.abc import Callable

from embedkit import hookimpl


@hookimpl
def register_field_types(register: Callable[..., None]) -> None:
    """Text as hashed words and n-grams."""
    register(
        "text",
        "embedkit_text.text:Text",
        config="embedkit_text.fields:TextOptions",
        summary="Free text or identifiers, as hashes of words and character n-grams.",
    )


@hookimpl
def register_encoders(register: Callable[..., None]) -> None:
    """Encoders of text."""
    register(
        "hashed_text",
        "embedkit_text.hashed:HashedText",
        config="embedkit_text.configs:HashedTextConfig",
        summary="The mean of hashed words and character n-grams, weighted by inverse document frequency.",
    )
