"""Options of text encoders. No torch here."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from embedkit.component import Config


class HashedTextConfig(Config):
    """Options of ``hashed_text``."""

    accepts: ClassVar[frozenset[str]] = frozenset({"text"})
    buckets: int = Field(32_768, ge=1)
    """Rows of the table; words and character n-grams share it, and more rows mean fewer collisions."""
    weighted: bool = True
    """Weigh each word and n-gram by its inverse document frequency; else all count the same."""
    init_std: float = Field(0.05, gt=0)
    """Standard deviation of the rows at the start."""
