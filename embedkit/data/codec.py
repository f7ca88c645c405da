"""Codec: the registered class of a field type. Learns from a stream of raw values, then turns raw values into Columns.

A codec is fitted on train rows only, in one pass: ``observe`` each Arrow array, ``finish`` once. Its state is JSON plus an optional
Parquet file, so that a bundle can carry it (wall 5). Fields of one domain share the ``Vocabulary`` object that their codecs were given.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pyarrow as pa
from torch import Tensor

from embedkit.component import Component
from embedkit.data.columns import Column
from embedkit.data.vocabulary import Vocabulary
from embedkit.schema import FieldSpec


@dataclass(frozen=True)
class CodecContext:
    """What a codec knows besides its options.

    Attributes:
        spec: the field.
        vocabulary: the domain's vocabulary, shared by all fields of the domain; None for types that need none.
        path: where the values come from, for messages (a file name or a table's name).
    """

    spec: FieldSpec
    vocabulary: Vocabulary | None = None
    path: str = ""


@dataclass(frozen=True, eq=False)
class FieldStats:
    """What encoders are sized and initialised by.

    Attributes:
        rows: values observed.
        missing: of these, missing.
        size: number of codes, the unknown code 0 included (vocabulary types), else None.
        width: numbers a value for dense values: 1 for [B], C for [B, C].
        counts: int64 [size], train occurrences of each code.
        quantiles: float32 [n], ascending and distinct, in the units of the encoded values (numbers).
        max_length: most values a row, for ragged types.
        extras: what a type of a plugin adds.
    """

    rows: int
    missing: int
    size: int | None = None
    width: int = 1
    counts: Tensor | None = None
    quantiles: Tensor | None = None
    max_length: int | None = None
    extras: Mapping[str, Any] = field(default_factory=dict)


class Codec(Component):
    """Base of field types. ``config`` is a ``FieldOptions``, ``context`` a ``CodecContext``."""

    ragged: ClassVar[bool] = False
    uses_vocabulary: ClassVar[bool] = False

    @abstractmethod
    def observe(self, values: pa.Array) -> None:
        """See some train values (null and NaN mean missing).

        Raises:
            DataError: a value is of a type that this field cannot be, with its row in the array and what was found.
        """

    @abstractmethod
    def finish(self) -> None:
        """All train values were seen: settle the state. ``encode`` may be called from now on."""

    @abstractmethod
    def encode(self, values: pa.Array) -> Column:
        """Encode B raw values, vectorised. Unseen categories get the unknown code 0.

        Raises:
            DataError: as ``observe``.
        """

    @property
    @abstractmethod
    def stats(self) -> FieldStats:
        """Statistics for encoders; valid after ``finish``."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """JSON-ready state (the vocabulary apart: it is saved once a domain)."""

    @abstractmethod
    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take what ``state`` returned; replaces ``observe`` and ``finish``."""

    @property
    def unknown(self) -> int:
        """Values that ``encode`` mapped to the unknown code so far."""
        return 0
