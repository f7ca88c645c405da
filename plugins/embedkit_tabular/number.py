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
from embedkit_tabular.moments import F64, Moments, Sample

_LARGEST = 1e150
"""Numbers beyond this are cut to it before anything is squared, so that sums stay finite."""


class Number(Codec):
    """A number, standardised with the mean and standard deviation of the train values and cut to ``clip`` deviations.

    Null and NaN are missing; an infinity is an error. A constant field encodes its constant as 0; a field without any train value keeps
    numbers as they are. Quantile edges come from a uniform sample of 65,536 values and are in encoded units.
    """

    config: NumberOptions

    def __init__(self, config: NumberOptions, *, context: CodecContext) -> None:
        super().__init__(config, context=context)
        self._moments, self._sample = Moments(), Sample()
        self._rows = self._missing = 0
        self._mean, self._deviation = 0.0, 1.0
        self._edges: F64 = np.zeros(1)

    def observe(self, values: pa.Array) -> None:
        """See some train values."""
        numbers = floats(values, self.context.spec)
        there = numbers[~np.isnan(numbers)]
        self._rows += len(numbers)
        self._missing += len(numbers) - len(there)
        scaled = self._scaled(there)
        self._moments.observe(scaled)
        self._sample.observe(scaled)

    def finish(self) -> None:
        """Settle mean, deviation and quantile edges."""
        self._mean, self._deviation = self._moments.finish()
        edges = self._sample.quantiles(self.config.quantiles)
        if len(edges):
            edges[0], edges[-1] = self._moments.low, self._moments.high
            self._edges = np.unique(self._standard(edges).astype(np.float32)).astype(np.float64)

    def encode(self, values: pa.Array) -> Column:
        """float32 [B]; missing rows hold 0."""
        numbers = floats(values, self.context.spec)
        missing = np.isnan(numbers)
        encoded = self._standard(self._scaled(numbers))
        encoded[missing] = 0.0
        present = torch.from_numpy(~missing) if missing.any() else None
        return Column(torch.from_numpy(encoded.astype(np.float32)), None, present)

    def _scaled(self, numbers: F64) -> F64:
        if self.config.scale == "log":
            return np.copysign(np.log1p(np.abs(numbers)), numbers)
        return np.clip(numbers, -_LARGEST, _LARGEST)

    def _standard(self, scaled: F64) -> F64:
        return np.clip((scaled - self._mean) / self._deviation, -self.config.clip, self.config.clip)

    @property
    def stats(self) -> FieldStats:
        """``quantiles`` has one edge for a constant field, and for one that has no train value."""
        return FieldStats(self._rows, self._missing, quantiles=torch.tensor(self._edges, dtype=torch.float32))

    def state(self) -> dict[str, Any]:
        """Mean, deviation, edges, counts."""
        return {
            "rows": self._rows,
            "missing": self._missing,
            "mean": self._mean,
            "deviation": self._deviation,
            "edges": self._edges.tolist(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take what ``state`` returned."""
        self._rows, self._missing = int(state["rows"]), int(state["missing"])
        self._mean, self._deviation = float(state["mean"]), float(state["deviation"])
        self._edges = np.array(state["edges"], dtype=np.float64)


def floats(values: pa.Array, spec: FieldSpec) -> F64:
    """The values as float64 [n], NaN where missing.

    Raises:
        BadValue: they are no numbers, or one is infinite.
    """
    kind, t = values.type, pa.types
    if t.is_dictionary(kind):
        return floats(values.cast(kind.value_type), spec)
    if not (t.is_integer(kind) or t.is_floating(kind) or t.is_boolean(kind) or t.is_decimal(kind) or t.is_null(kind)):
        raise _not_a_number(values, spec)
    if t.is_boolean(kind):
        values = values.cast(pa.uint8())
    numbers: npt.NDArray[np.float64] = values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    infinite = np.isinf(numbers)
    if infinite.any():
        row = int(infinite.argmax())
        raise BadValue(spec, row, str(numbers[row]), 'a finite number: mend the data, or set nonfinite = "missing" for the table')
    return numbers


def _not_a_number(values: pa.Array, spec: FieldSpec) -> BadValue:
    hint = "; dates and times are of type 'timestamp'" if pa.types.is_temporal(values.type) else ""
    there = np.flatnonzero(np.asarray(values.is_valid()))
    if len(there) == 0:
        return BadValue(spec, None, f"values of type {values.type}", f"numbers: cast the column{hint}")
    row = int(there[0])
    return BadValue(spec, row, f"{values[row].as_py()!r} ({values.type})", f"a number: cast the column, or choose another type{hint}")
