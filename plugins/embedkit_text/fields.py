"""Options of the field type text, and which columns it takes for its own. No torch."""

from __future__ import annotations

import re
from typing import ClassVar

from pydantic import Field, field_validator

from embedkit.config.fields import ColumnSummary, FieldOptions

_CODE = re.compile(r"(^|[_\W])(id|ids|code|key|uuid|sku|uri|url)$|(?-i:[a-z](Id|ID|Code|Key)$)", re.IGNORECASE)


class TextOptions(FieldOptions):
    """Text, or identifiers, as hashed words and character n-grams. Nothing is learned from the train rows but how rare each hash is."""

    default_encoder: ClassVar[str] = "hashed_text"

    max_tokens: int = Field(64, ge=1)
    """Words that are read, from the start of the text."""
    bigrams: bool = True
    """Whether two words that follow each other count as one more token."""
    ngrams: list[int] = [3, 4, 5]
    """Lengths of the character n-grams, word boundaries included; none when empty. They carry misspellings and word forms."""
    idf_buckets: int = Field(65_536, ge=0)
    """Buckets in which document frequencies are counted, to weigh rare words more; 0 counts none."""

    @field_validator("ngrams")
    @classmethod
    def _lengths(cls, lengths: list[int]) -> list[int]:
        if any(not 1 <= n <= 16 for n in lengths) or len(set(lengths)) < len(lengths):
            raise ValueError("n-gram lengths are distinct numbers from 1 to 16")
        return lengths

    @classmethod
    def infer(cls, column: ColumnSummary) -> float:
        """Text columns whose values are several words long and hardly repeat, and names that hardly repeat and are no codes."""
        if column.dtype != "string" or not column.sample:
            return 0.0
        texts = [str(value) for value in column.sample]
        words = sum(len(text.split()) for text in texts) / len(texts)
        distinct = column.unique / max(1, column.rows - column.nulls)
        if words >= 4 and distinct > 0.005:
            return 0.95
        if words >= 1.5 and (distinct > 0.2 or column.unique > 1000):
            return 0.8
        letters = sum(c.isalpha() for text in texts for c in text) / max(1, sum(map(len, texts)))
        return 0.65 if distinct > 0.5 and letters > 0.7 and not _CODE.search(column.name) else 0.2
