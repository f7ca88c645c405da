"""Codec: the registered class of a field type. Learns from a stream of raw values, then turns raw values into Columns.

A codec is fitted on train rows only, in one pass: ``observe`` each Arrow array, ``finish`` once. Its state is JSON plus an optional
Parquet file, so that a bundle can carry it (wall 5). Fields of one domain share the ``Vocabulary`` object that their codecs were given.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pyarrow as pa
from torch import Tensor

from embedkit.component import Component
from embedkit.config.fields import FieldOptions
from embedkit.data.columns import Column
from embedkit.data.vocabulary import Vocabulary
from embedkit.errors import DataError, UsageError
from embedkit.schema import FieldSpec


@dataclass(frozen=True)
class CodecContext:
    """What a codec knows besides its options.

    Attributes:
        spec: the field.
        vocabulary: the domain's vocabulary, shared by all fields of the domain; None for types that need none, and before fitting, when
            it comes by ``use_vocabulary`` once all fields of the domain were observed.
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


class BadValue(DataError):  # noqa: N818 - a noun at every raise, like SpaceMismatch
    """A codec met a value that its field cannot be; the codec knows the row of the array, its caller knows the file.

    Args:
        spec: the field.
        row: row in the array, None when the whole column is meant.
        found: what stands there.
        wanted: what could stand there, and what to do.
    """

    def __init__(self, spec: FieldSpec, row: int | None, found: str, wanted: str) -> None:
        self.spec, self.row, self.found, self.wanted = spec, row, found, wanted
        super().__init__(self._sentence("", 0))

    @classmethod
    def of_type(cls, spec: FieldSpec, values: pa.Array, wanted: str, *, row: int = 0) -> BadValue:
        """For an array of a type that the field cannot read: shows its first value. ``row`` is where the array begins."""
        at = next((i for i, there in enumerate(values.is_valid().to_pylist()) if there), None)
        if at is None:
            return cls(spec, None, f"values of type {values.type}", wanted)
        return cls(spec, row + at, f"{_short(values[at].as_py())} ({values.type})", wanted)

    def _sentence(self, path: str, first_row: int) -> str:
        column = self.spec.column or self.spec.name
        where = f"{path or self.spec.table}: column '{column}'"
        if self.row is not None:
            where += f", row {self.row + first_row}"
        return f"{where}: found {self.found}, wanted {self.wanted}"

    def placed(self, place: Callable[[int], str]) -> DataError:
        """The same error with the row's place in words: ``place(row)`` gives ``"row 17 of data/items.parquet"``."""
        where = f" in {place(self.row)}" if self.row is not None else ""
        column = self.spec.column or self.spec.name
        return DataError(f"table '{self.spec.table}': column '{column}' holds {self.found}{where}, wanted {self.wanted}")

    def at(self, path: str, first_row: int = 0) -> DataError:
        """The same error with the file's name, rows counted from ``first_row``."""
        return DataError(self._sentence(path, first_row))


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


class Codec(Component):
    """Base of field types. ``config`` is a ``FieldOptions``, ``context`` a ``CodecContext``.

    A type with ``uses_vocabulary`` is fitted in this order: ``observe`` each array, while the domain's vocabulary counts the
    ``vocabulary_values`` of each; ``use_vocabulary`` once; ``finish`` once.
    """

    ragged: ClassVar[bool] = False
    uses_vocabulary: ClassVar[bool] = False

    config: FieldOptions
    context: CodecContext

    def __init__(self, config: FieldOptions, *, context: CodecContext) -> None:
        super().__init__(config, context=context)
        self._vocabulary = context.vocabulary

    @property
    def vocabulary(self) -> Vocabulary:
        """The domain's vocabulary; only for types with ``uses_vocabulary``, after fitting."""
        assert self._vocabulary is not None, f"field '{self.context.spec.name}' has no vocabulary yet"
        return self._vocabulary

    def use_vocabulary(self, vocabulary: Vocabulary) -> None:
        """Take the domain's finished (or grown) vocabulary."""
        self._vocabulary = vocabulary

    def vocabulary_values(self, values: pa.Array) -> pa.Array:
        """The single values in an array that the domain's vocabulary counts; a list type returns the members of its lists."""
        return values

    @abstractmethod
    def observe(self, values: pa.Array) -> None:
        """See some train values (null and NaN mean missing).

        Raises:
            BadValue: a value is of a type that this field cannot be, with its row in the array and what was found.
        """

    @abstractmethod
    def finish(self) -> None:
        """All train values were seen: settle the state. ``encode`` may be called from now on."""

    @abstractmethod
    def encode(self, values: pa.Array) -> Column:
        """Encode B raw values, vectorised. Unseen categories get the unknown code 0.

        Raises:
            BadValue: as ``observe``.
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

    def restore(self, values: Tensor) -> Tensor:
        """Encoded numbers in the units of the table: what ``encode`` did to them, undone (cut values stay cut).

        Raises:
            UsageError: the field is not of a type that encodes one number a value.
        """
        spec = self.context.spec
        raise UsageError(f"field '{spec.name}' of type {spec.type} holds no single numbers; read the column as type 'number'")

    @property
    def unknown(self) -> int:
        """Values that ``encode`` mapped to the unknown code so far."""
        return 0

    @property
    def dropped(self) -> int:
        """Missing members of lists that ``observe`` and ``encode`` left out so far."""
        return 0
