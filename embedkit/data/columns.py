"""Column: the encoded values of one field for some rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Column:
    """Encoded values of one field for B rows.

    Dense: ``values`` is [B] or [B, …] and ``offsets`` is None. Ragged: ``values`` is [T] or [T, …] and ``offsets`` is int64 [B + 1],
    row b holding ``values[offsets[b]:offsets[b + 1]]``.

    ``present`` is bool [B], False where the row has no value; None means that every row has one. An empty list is present and has
    length 0. What ``values`` holds in a dense row that is not present is unspecified (wall 6: missing is a mask, not a number).

    ``longest`` is the length of the longest row of a ragged column, where it is known without asking the device that holds it.
    """

    values: Tensor
    offsets: Tensor | None = None
    present: Tensor | None = None
    longest: int | None = None

    def __len__(self) -> int:
        return self.values.shape[0] if self.offsets is None else self.offsets.shape[0] - 1

    @property
    def ragged(self) -> bool:
        """Whether rows hold lists of values."""
        return self.offsets is not None

    def lengths(self) -> Tensor:
        """Values per row, int64 [B]. Ragged columns only."""
        assert self.offsets is not None
        return self.offsets[1:] - self.offsets[:-1]

    def take(self, rows: Tensor) -> Column:
        """The column of the given row positions (int64 [N]), in that order; positions may repeat."""
        present = None if self.present is None else self.present.index_select(0, rows)
        if self.offsets is None:
            return Column(self.values.index_select(0, rows), None, present)
        start = self.offsets.index_select(0, rows)
        length = self.offsets.index_select(0, rows + 1) - start
        index, offsets = ragged_ranges(start, length)
        return Column(self.values.index_select(0, index), offsets, present)

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Column:
        """The column on another device."""
        return self.moved(lambda x: x.to(device, non_blocking=non_blocking))

    def moved(self, move: Callable[[Tensor], Tensor]) -> Column:
        """The column with every tensor moved by ``move``. Its longest row is measured before: a GPU would have to be waited for."""
        longest = self.longest
        if longest is None and self.offsets is not None and self.offsets.device.type == "cpu":
            longest = _longest(self.lengths())
        offsets, present = (None if x is None else move(x) for x in (self.offsets, self.present))
        return Column(move(self.values), offsets, present, longest)

    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(x.numel() * x.element_size() for x in (self.values, self.offsets, self.present) if x is not None)


def ragged_ranges(start: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
    """Concatenate the ranges ``start[i] .. start[i] + length[i]``.

    Returns the positions, int64 [T], and the offsets of the pieces, int64 [N + 1].
    """
    offsets = torch.zeros(length.shape[0] + 1, dtype=torch.int64, device=length.device)
    torch.cumsum(length, 0, out=offsets[1:])
    shift = torch.repeat_interleave(start - offsets[:-1], length, output_size=int(offsets[-1]))
    return torch.arange(shift.shape[0], device=shift.device) + shift, offsets


def places(column: Column, width: int) -> Tensor:
    """Where the values of a ragged column lie in its rows laid out [B, width] one after the other: int64 [T]."""
    assert column.offsets is not None
    shift = torch.arange(len(column), device=column.offsets.device) * width - column.offsets[:-1]
    count = column.values.shape[0]
    return torch.repeat_interleave(shift, column.lengths(), output_size=count) + torch.arange(count, device=shift.device)


def concat(columns: list[Column]) -> Column:
    """Stack columns of one field, row after row."""
    if len(columns) == 1:
        return columns[0]
    present = None
    if any(c.present is not None for c in columns):
        present = torch.cat(
            [torch.ones(len(c), dtype=torch.bool, device=c.values.device) if c.present is None else c.present for c in columns]
        )
    values = torch.cat([c.values for c in columns])
    if columns[0].offsets is None:
        return Column(values, None, present)
    pieces, base = [columns[0].offsets[:1]], 0
    for c in columns:
        assert c.offsets is not None
        pieces.append(c.offsets[1:] + base)
        base += int(c.offsets[-1])
    return Column(values, torch.cat(pieces), present)


def padded(column: Column, max_length: int | None = None) -> tuple[Tensor, Tensor]:
    """Ragged → dense: values [B, L, …] (zeros where padded) and pad bool [B, L], True where there is no value.

    L is the longest row (at least 1), or ``max_length`` keeping each row's last values.
    """
    assert column.offsets is not None
    start, length = column.offsets[:-1], column.lengths()
    if max_length is not None:
        start = start + (length - max_length).clamp(min=0)
        length = length.clamp(max=max_length)
    longest = _longest(length) if column.longest is None else column.longest
    width = max(1, longest if max_length is None else min(longest, max_length))
    position = torch.arange(width, device=length.device)
    pad = position.unsqueeze(0) >= length.unsqueeze(1)
    if column.values.shape[0] == 0:
        return column.values.new_zeros((len(column), width, *column.values.shape[1:])), pad
    index = (start.unsqueeze(1) + position).masked_fill(pad, 0)
    dense = column.values.index_select(0, index.flatten()).view(*index.shape, *column.values.shape[1:])
    mask = pad.view(*pad.shape, *([1] * (dense.dim() - 2)))
    return dense.masked_fill(mask, 0), pad


def _longest(lengths: Tensor) -> int:
    return int(lengths.max()) if lengths.numel() else 0
