"""Text: its field type and encoders."""

from __future__ import annotations

from collections.abc import Callable

from embedkit import hookimpl


@hookimpl
def register_encoders(register: Callable[..., None]) -> None:
    """Encoders of text."""
    register(
        "hashed_text",
        "embedkit_text.hashed:HashedText",
        config="embedkit_text.configs:HashedTextConfig",
        summary="The mean of hashed words and character n-grams, weighted by inverse document frequency.",
    )
