"""Options of the field type sequence, and which columns it takes for its own. No torch."""

from __future__ import annotations

import re
from typing import ClassVar

from pydantic import Field

from embedkit.config.fields import ColumnSummary, VocabularyOptions

_ORDERED = re.compile(r"history|sequence|session|events|clicks|views|visited|watched|played|basket|path|trail", re.IGNORECASE)


class SequenceOptions(VocabularyOptions):
    """Ids in order: a list column, or (on an event table, without a column) the user's earlier events."""

    default_encoder: ClassVar[str] = "embedding"

    max_length: int = Field(50, ge=1)
    """The last so many ids are read."""

    @classmethod
    def infer(cls, column: ColumnSummary) -> float:
        """Lists of ids that are called like a history."""
        if column.dtype not in {"list[int]", "list[string]"}:
            return 0.0
        return 0.9 if _ORDERED.search(column.name) else 0.3
