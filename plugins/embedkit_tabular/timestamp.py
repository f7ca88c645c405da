"""Field type ``timestamp``: seven numbers a moment, dense [B, 7]."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch

from embedkit.data.codec import BadValue, Codec, CodecContext, FieldStats
from embedkit.data.columns import Column
from embedkit_tabular.fields import TimestampOptions
from embedkit_tabular.moments import F64, Standard

_DAY = 86_400_000_000
"""Microseconds."""
_BINS = 64
WIDTH = 7


class Timestamp(Codec):
    """Sine and cosine of the hour of the day, the day of the week and the day of the year, then the standardised trend.

    The angles run smoothly (half past eleven lies between eleven and twelve; a year has its own length); Monday 0:00 and January 1 are
    angle 0. Dates are midnight; zoned times count in UTC, times without a zone as they stand.
    """

    config: TimestampOptions

    def __init__(self, config: TimestampOptions, *, context: CodecContext) -> None:
        super().__init__(config, context=context)
        self._trend = Standard(config.clip, _BINS)
        self._rows = self._missing = 0

    def observe(self, values: pa.Array) -> None:
        """See some train values."""
        moments, missing = self._microseconds(values)
        self._rows += len(values)
        self._missing += int(missing.sum())
        self._trend.observe(moments[~missing] / _DAY)

    def finish(self) -> None:
        """Settle the trend's mean, deviation and quantile edges."""
        self._trend.finish()

    def encode(self, values: pa.Array) -> Column:
        """float32 [B, 7]; missing rows hold 0."""
        moments, missing = self._microseconds(values)
        out = np.empty((len(moments), WIDTH), dtype=np.float32)
        monday = moments + 3 * _DAY  # 1 January 1970 was a Thursday
        for place, phase in enumerate((moments % _DAY / _DAY, monday % (7 * _DAY) / (7 * _DAY), _year_phase(moments))):
            out[:, 2 * place] = np.sin(2 * np.pi * phase)
            out[:, 2 * place + 1] = np.cos(2 * np.pi * phase)
        out[:, 6] = self._trend(moments / _DAY)
        out[missing] = 0.0
        present = torch.from_numpy(~missing) if missing.any() else None
        return Column(torch.from_numpy(out), None, present)

    def _microseconds(self, values: pa.Array) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Microseconds since 1970 in UTC, int64 [n] (0 where missing), and what is missing, bool [n]."""
        kind, t = values.type, pa.types
        if t.is_dictionary(kind):
            return self._microseconds(values.cast(kind.value_type))
        if t.is_integer(kind) and self.config.unit is not None:
            values = values.cast(pa.int64()).cast(pa.timestamp(self.config.unit))
        elif not (t.is_date(kind) or t.is_timestamp(kind) or t.is_null(kind)):
            hint = 'set unit = "s" (or "ms", "us", "ns")' if t.is_integer(kind) else "cast the column"
            raise BadValue.of_type(self.context.spec, values, f"a date or datetime: {hint}")
        missing = np.asarray(values.is_null())
        if t.is_timestamp(values.type) and values.type.unit == "ns":
            values = pc.floor_temporal(values.cast(pa.timestamp("ns")), unit="microsecond")
        moments = values.cast(pa.timestamp("us")) if not t.is_timestamp(values.type) else _without_zone(values)
        return moments.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False), missing

    @property
    def stats(self) -> FieldStats:
        """``quantiles`` are those of the trend, the last of the seven numbers."""
        edges = torch.tensor(self._trend.edges, dtype=torch.float32)
        return FieldStats(self._rows, self._missing, width=WIDTH, quantiles=edges)

    def state(self) -> dict[str, Any]:
        """The trend's mean, deviation and edges, and counts."""
        return {"rows": self._rows, "missing": self._missing, **self._trend.state()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take what ``state`` returned."""
        self._rows, self._missing = int(state["rows"]), int(state["missing"])
        self._trend.load_state(state)


def _without_zone(values: pa.Array) -> pa.Array:
    return values.cast(pa.timestamp(values.type.unit)).cast(pa.timestamp("us"))


def _year_phase(moments: npt.NDArray[np.int64]) -> F64:
    """Share of its year that each moment is through, float64 [n] in [0, 1)."""
    years = moments.astype("datetime64[us]").astype("datetime64[Y]")
    start = years.astype("datetime64[us]").astype(np.int64)
    stop = (years + 1).astype("datetime64[us]").astype(np.int64)
    return (moments - start) / (stop - start)
