"""Options of the field types number, category, categories and timestamp, and which columns each takes for its own. No torch."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from embedkit.config.fields import ColumnSummary, FieldOptions, VocabularyOptions

_ID_WORDS = "id|ids|code|key|no|nr|uuid|sku|zip|zipcode|postcode|isbn|ean"
_THINGS = "user|item|customer|client|product|session|visitor|movie|article|store|seller|country|region|city|state"
_IDENTIFIER = re.compile(rf"(^|[_\W])({_ID_WORDS})$|^({_THINGS})$|(?-i:[a-z](Id|ID|Code|Key)$)", re.IGNORECASE)
_FEW = 20
"""Integers with at most this many distinct values among many rows are likelier labels than amounts."""


def names_an_id(name: str) -> bool:
    """Whether a column is called like an identifier or a code (``movie_id``, ``stock_code``, ``userId``)."""
    return _IDENTIFIER.search(name) is not None


class NumberOptions(FieldOptions):
    """A number, standardised with the mean and standard deviation of the train rows; with ``role = "weight"`` as it stands."""

    default_encoder: ClassVar[str] = "number"

    scale: Literal["linear", "log"] = "linear"
    """``linear``: as it is; ``log``: sign(x) log(1 + |x|), for amounts, counts and prices that span orders of magnitude."""
    quantiles: int = Field(64, ge=1, le=1024)
    """Most bins whose edges are kept for encoders that are linear between them: evenly filled, but that a value which would fill one alone
    is an edge."""
    clip: float = Field(10.0, gt=0)
    """Standardised values are cut to this many standard deviations, so that one absurd value cannot break a model."""

    @classmethod
    def infer(cls, column: ColumnSummary) -> float:
        """Floats, and integers that are neither called like an id nor few."""
        if column.dtype not in {"int", "float", "decimal"}:
            return 0.2 if column.dtype == "bool" else 0.0
        if names_an_id(column.name):
            return 0.3
        if column.dtype == "int" and column.unique <= min(_FEW, column.rows / 10):
            return 0.55
        return 0.9


class CategoryOptions(VocabularyOptions):
    """One of a set of values: integers, text, booleans, dates. Values never seen in training are the unknown value."""

    default_encoder: ClassVar[str] = "embedding"

    weights: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] | None = None
    """With ``role = "weight"``: what each value weighs, such as ``{ view = 0.2, cart = 0.5, purchase = 1.0 }``."""

    @classmethod
    def infer(cls, column: ColumnSummary) -> float:
        """Booleans, text without the look of sentences, and integers that are called like an id or are few."""
        if column.dtype == "bool":
            return 0.9
        if column.dtype in {"int", "float"}:
            whole = all(float(value).is_integer() for value in column.sample if value == value)  # NaN differs from itself
            if not whole:
                return 0.05
            if names_an_id(column.name):
                return 0.9
            return 0.6 if column.dtype == "int" and column.unique <= min(_FEW, column.rows / 10) else 0.2
        if column.dtype == "string":
            return 0.6
        return 0.15 if column.dtype == "date" else 0.0


class CategoriesOptions(VocabularyOptions):
    """A list of categories, in no order that matters. An empty list is a value; a missing member is left out and counted."""

    default_encoder: ClassVar[str] = "embedding"

    separator: str | None = Field(None, min_length=1)
    """For text columns that hold lists: what stands between the members, such as ``"|"``."""

    @classmethod
    def infer(cls, column: ColumnSummary) -> float:
        """Lists of integers, text or booleans."""
        if column.dtype in {"list[int]", "list[string]", "list[bool]"}:
            return 0.7
        return 0.0


class TimestampOptions(FieldOptions):
    """A date or a moment: the hour of the day, the day of the week and of the year as angles, and the trend. Zoned times count in UTC."""

    default_encoder: ClassVar[str] = "timestamp"

    unit: Literal["s", "ms", "us", "ns"] | None = None
    """What an integer column counts since 1970; dates and datetimes need none."""
    clip: float = Field(10.0, gt=0)
    """The standardised trend is cut to this many standard deviations."""

    @classmethod
    def infer(cls, column: ColumnSummary) -> float:
        """Dates and datetimes."""
        return 1.0 if column.dtype in {"date", "datetime"} else 0.0
