"""Field type ``number``: standardised float32 values, dense [B]."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from embedkit.data.codec import BadValue, Codec, CodecContext, FieldStats
from embedkit.data.columns import Column
from embedkit.schema import FieldSpec
from embedkit_tabular.fields import NumberOptions
from embedkit_tabular.moments import F64, Standard

_LARGEST = 1e150
"""Numbers beyond this are cut to it before anything is squared, so that sums stay finite."""


class Number(Codec):
    """A number, standardised with the mean and standard deviation of the train values and cut to ``clip`` deviations.

    With ``role = "weight"`` values stay as they are, and a negative one is an error.

    Null and NaN are missing; an infinity is an error. A constant field encodes its constant as 0; a field without any train value keeps
    numbers as they are. Quantile edges come from a uniform sample of 65,536 values and are in encoded units.
    """

    config: NumberOptions

    def __init__(self, config: NumberOptions, *, context: CodecContext) -> None:
        super().__init__(config, context=context)
        self._standard = Standard(config.clip, config.quantiles)
        self._rows = self._missing = 0

    def observe(self, values: pa.Array) -> None:
        """See some train values."""
        numbers = floats(values, self.context.spec)
        if self.context.spec.role == "weight":
            weights(numbers, self.context.spec)
        there = numbers[~np.isnan(numbers)]
        self._rows += len(numbers)
        self._missing += len(numbers) - len(there)
        self._standard.observe(self._scaled(there))

    def finish(self) -> None:
        """Settle mean, deviation and quantile edges."""
        self._standard.finish()

    def encode(self, values: pa.Array) -> Column:
        """float32 [B]; missing rows hold 0."""
        numbers = floats(values, self.context.spec)
        missing = np.isnan(numbers)
        if self.context.spec.role == "weight":
            return weights(numbers, self.context.spec)
        encoded = self._standard(self._scaled(numbers))
        encoded[missing] = 0.0
        present = torch.from_numpy(~missing) if missing.any() else None
        return Column(torch.from_numpy(encoded.astype(np.float32)), None, present)

    def restore(self, values: torch.Tensor) -> torch.Tensor:
        """See ``Codec.restore``."""
        numbers = values * self._standard.deviation + self._standard.mean
        if self.config.scale == "log":
            return torch.copysign(torch.expm1(numbers.abs()), numbers)
        return numbers

    def _scaled(self, numbers: F64) -> F64:
        if self.config.scale == "log":
            return np.copysign(np.log1p(np.abs(numbers)), numbers)
        return np.clip(numbers, -_LARGEST, _LARGEST)

    @property
    def stats(self) -> FieldStats:
        """``quantiles`` has one edge for a constant field, and for one that has no train value."""
        return FieldStats(self._rows, self._missing, quantiles=torch.tensor(self._standard.edges, dtype=torch.float32))

    def state(self) -> dict[str, Any]:
        """Mean, deviation, edges, counts."""
        return {"rows": self._rows, "missing": self._missing, **self._standard.state()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take what ``state`` returned."""
        self._rows, self._missing = int(state["rows"]), int(state["missing"])
        self._standard.load_state(state)


def weights(numbers: F64, spec: FieldSpec) -> Column:
    """Numbers [n] as weights, float32 [n]; NaN is missing.

    Raises:
        BadValue: one is negative.
    """
    missing = np.isnan(numbers)
    negative = numbers < 0
    if negative.any():
        row = int(negative.argmax())
        raise BadValue(spec, row, str(numbers[row]), "a weight of at least 0; mend the data, or leave the row out by the table's 'where'")
    values = torch.from_numpy(np.where(missing, 0.0, numbers).astype(np.float32))
    return Column(values, None, torch.from_numpy(~missing) if missing.any() else None)


def floats(values: pa.Array, spec: FieldSpec) -> F64:
    """The values as float64 [n], NaN where missing.

    Raises:
        BadValue: they are no numbers, or one is infinite.
    """
    kind, t = values.type, pa.types
    if t.is_dictionary(kind):
        return floats(values.cast(kind.value_type), spec)
    if not (t.is_integer(kind) or t.is_floating(kind) or t.is_boolean(kind) or t.is_decimal(kind) or t.is_null(kind)):
        hint = "dates and times are of type 'timestamp'" if t.is_temporal(kind) else "cast the column, or choose another type"
        raise BadValue.of_type(spec, values, f"a number: {hint}")
    if t.is_boolean(kind):
        values = values.cast(pa.uint8())
    numbers: npt.NDArray[np.float64] = values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    infinite = np.isinf(numbers)
    if infinite.any():
        row = int(infinite.argmax())
        raise BadValue(spec, row, str(numbers[row]), 'a finite number: mend the data, or set nonfinite = "missing" for the table')
    return numbers
