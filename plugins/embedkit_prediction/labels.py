"""What encoded labels mean: 0 or 1, a class, a number. Losses and the evaluator read labels through these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from embedkit.data.codec import Codec
from embedkit.errors import DataError, UsageError

Value = bool | int | float | str


def require_label(fields: Any, name: str, where: str) -> None:
    """Raise ``UsageError`` unless a field of the schema has role ``label``."""
    if name not in fields:
        raise UsageError(f"{where}: label = '{name}' is no field; there are {', '.join(fields)}")
    if fields[name].role != "label":
        raise UsageError(f"{where}: field '{name}' has role '{fields[name].role}'; set role = \"label\" so that no tower reads it")


@dataclass(frozen=True)
class Binary:
    """A label of two values as encoded by its codec.

    Attributes:
        field: name.
        low: encoded value that means 0.
        high: encoded value that means 1.
        coded: whether the encoded values are codes of a vocabulary, whose 0 is unknown.
    """

    field: str
    low: float
    high: float
    coded: bool

    @classmethod
    def of(cls, codec: Codec, positive: Value | None, where: str) -> Binary:
        """Look at the label's train values.

        Raises:
            UsageError: the label's type cannot be binary, or ``positive`` is needed or wrong.
            DataError: it has other than two values.
        """
        name = codec.context.spec.name
        if codec.uses_vocabulary and not codec.ragged:
            return cls._of_category(codec, name, positive, where)
        if positive is not None:
            raise UsageError(f"{where}: positive is for category labels, and '{name}' is of type {codec.context.spec.type}: leave it out")
        edges = codec.stats.quantiles
        if edges is None:
            raise _wrong_type(codec, where, "a number that is 0 or 1, or a category of two values")
        ends = edges[[0, -1]]
        found = [round(value, 4) for value in codec.restore(ends.double()).tolist()]
        # A rare 1 lies so many deviations from the mean that its code may be cut: 0 and something up to 1 is a label all the same.
        if not (found[0] == 0 and 0 < found[1] <= 1):
            raise DataError(
                f"{where}: label '{name}' goes from {found[0]:g} to {found[1]:g} in the train rows, wanted 0 and 1, both: "
                "map the values, or read them as a category"
            )
        return cls(name, float(ends[0]), float(ends[1]), False)

    @classmethod
    def _of_category(cls, codec: Codec, name: str, positive: Value | None, where: str) -> Binary:
        values = codec.vocabulary.values.to_pylist()
        if len(values) != 2:
            raise DataError(
                f"{where}: label '{name}' has {len(values)} values in the train rows ({_some(values)}), wanted two; for more use "
                'cross_entropy (task = "multiclass")'
            )
        if positive is None:
            if isinstance(values[0], str):
                raise UsageError(f"{where}: set positive to the value of '{name}' that counts as 1: {_some(values)}")
            positive = max(values)
        if positive not in values:
            raise UsageError(f"{where}: positive = {positive!r} is no value of '{name}', which has {_some(values)}")
        high = values.index(positive) + 1
        return cls(name, float(3 - high), float(high), True)

    def targets(self, values: Tensor, present: Tensor | None) -> tuple[Tensor, Tensor]:
        """Encoded labels [B] → 0 or 1 as float32 [B], and which rows have a label, bool [B].

        Raises:
            DataError: a row's label is neither value.
        """
        values = values.float()
        high = values == self.high
        known = high | (values == self.low)
        there = values != 0 if self.coded else torch.ones_like(known)
        there = there if present is None else there & present
        if bool((there & ~known).any()):
            raise DataError(f"label '{self.field}': a row holds neither of the two values that the train rows have, 0 and 1")
        return high.float(), there & known


def class_names(codec: Codec, where: str) -> list[str]:
    """The classes of a category label, in the order of their codes.

    Raises:
        UsageError: the label is no category.
        DataError: it has fewer than two values.
    """
    if not codec.uses_vocabulary or codec.ragged:
        raise _wrong_type(codec, where, "a category")
    values = codec.vocabulary.values.to_pylist()
    if len(values) < 2:
        raise DataError(f"{where}: label '{codec.context.spec.name}' has {len(values)} value in the train rows, wanted at least two")
    return [str(value) for value in values]


def require_number(codec: Codec, where: str) -> None:
    """Raise ``UsageError`` unless the field encodes one number a row."""
    if codec.uses_vocabulary or codec.ragged or codec.stats.quantiles is None or codec.stats.width != 1:
        raise _wrong_type(codec, where, "a number")


def _wrong_type(codec: Codec, where: str, wanted: str) -> UsageError:
    spec = codec.context.spec
    return UsageError(f"{where}: field '{spec.name}' is of type {spec.type}, wanted {wanted}")


def _some(values: list[Any]) -> str:
    shown = ", ".join(repr(value) for value in values[:5])
    return shown + (", …" if len(values) > 5 else "") if values else "none"
