"""List columns as members and offsets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from embedkit.data.codec import BadValue
from embedkit.data.kinds import missing_mask
from embedkit.schema import FieldSpec


@dataclass(frozen=True, eq=False)
class Lists:
    """The lists of an array, missing members left out.

    Attributes:
        members: T values, list after list.
        offsets: int64 [n + 1].
        present: bool [n], False where there is no list; an empty list is one.
        dropped: missing members that were left out.
    """

    members: pa.Array
    offsets: npt.NDArray[np.int64]
    present: npt.NDArray[np.bool_]
    dropped: int

    def last(self, n: int) -> Lists:
        """Only the last n members of each list."""
        lengths = np.diff(self.offsets)
        if len(lengths) == 0 or lengths.max() <= n:
            return self
        kept = np.minimum(lengths, n)
        offsets = np.concatenate([[0], np.cumsum(kept)])
        index = np.arange(offsets[-1]) + np.repeat(self.offsets[1:] - kept - offsets[:-1], kept)
        return Lists(self.members.take(pa.array(index)), offsets, self.present, self.dropped)


def read_lists(values: pa.Array, spec: FieldSpec, *, separator: str | None = None) -> Lists:
    """Take a list array apart; with ``separator``, a text array whose texts are lists (an empty text is an empty list).

    Raises:
        BadValue: the values are no lists.
    """
    kind, t = values.type, pa.types
    if t.is_dictionary(kind):
        return read_lists(values.cast(kind.value_type), spec, separator=separator)
    if t.is_null(kind):
        none = np.zeros(len(values), dtype=np.bool_)
        return Lists(pa.nulls(0), np.zeros(len(values) + 1, dtype=np.int64), none, 0)
    if t.is_string_view(kind):  # Arrow splits and filters no views yet
        return read_lists(values.cast(pa.large_string()), spec, separator=separator)
    if separator is not None and (t.is_string(kind) or t.is_large_string(kind)):
        parts = pc.split_pattern(values, separator)
        values = pc.if_else(pc.equal(values, ""), pa.scalar([], parts.type), parts)
    elif not (t.is_list(kind) or t.is_large_list(kind) or t.is_fixed_size_list(kind)):
        hint = ", or text with the option separator" if spec.type == "categories" else ""
        raise BadValue.of_type(spec, values, f"a list of values{hint}")
    members = values.flatten()
    if t.is_string_view(members.type):
        members = members.cast(pa.large_string())
    lengths = np.asarray(pc.list_value_length(values).fill_null(0), dtype=np.int64)
    present = np.asarray(values.is_valid())
    offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)])
    missing = missing_mask(members)
    dropped = int(missing.sum())
    if dropped:
        kept = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(~missing)])
        offsets, members = kept[offsets], members.filter(pa.array(~missing))
    return Lists(members, offsets, present, dropped)
