"""FieldOptions: the light half of a field type, enough to infer and to check a run file without torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import Field

from embedkit.component import Config


@dataclass(frozen=True)
class ColumnSummary:
    """What a field type may look at to decide whether a column is its own.

    Attributes:
        name: column name.
        dtype: ``int``, ``float``, ``bool``, ``string``, ``date``, ``datetime``, ``list[int]``,
            ``list[string]``, … or the reader's word for others.
        rows: rows looked at.
        nulls: of these, without a value.
        unique: distinct values among them.
        sample: some non-null values.
    """

    name: str
    dtype: str
    rows: int
    nulls: int
    unique: int
    sample: Sequence[Any]


class FieldOptions(Config):
    """Base of a field type's options.

    ``default_encoder`` is the encoder a field gets when the run file names none; fields with the same default encoder share one
    instance, so that a domain's table rows are shared.
    """

    default_encoder: ClassVar[str]

    @classmethod
    def infer(cls, column: ColumnSummary) -> float:
        """How well the column fits this type: 0 (not at all) to 1. The best type wins; below 0.1 nobody does."""
        raise TypeError(f"{cls.__name__} does not say which columns it fits")


class VocabularyOptions(FieldOptions):
    """Options of field types whose values get codes of their own. They hold for the domain: its fields may not contradict each other."""

    min_count: int = Field(1, ge=1)
    """Values seen less often in training share the unknown code."""
    max_size: int | None = Field(None, ge=1)
    """At most this many values get a code of their own, the most frequent ones; no bound when left out."""
