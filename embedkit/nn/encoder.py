"""Encoder: Columns of one or more fields → Tokens. The base puts learned vectors where values are missing or hidden."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from embedkit.component import Component
from embedkit.data.columns import Column, padded, ragged_ranges
from embedkit.errors import UsageError
from embedkit.nn.tables import TableReport
from embedkit.nn.values import Tokens
from embedkit.schema import FieldSpec
from embedkit.views import View

if TYPE_CHECKING:
    from embedkit.data.codec import FieldStats


@dataclass(frozen=True)
class EncoderContext:
    """What an encoder is built from besides its options.

    Attributes:
        fields: the fields it serves, in run-file order.
        stats: field → statistics of its codec.
        dim: token width D.
        sparse: whether its tables are trained by an optimiser that wants sparse gradients.
        seed: of the run, for salts and other draws that are not weights.
        read: (tower, domain, codes int64 [N]) → the vectors [N, D] that this tower's trunk gives for the rows of its table whose key has
            these codes, and bool [N], whether there is such a row; while training only, for an encoder that ``reads`` the tower.
    """

    fields: tuple[FieldSpec, ...]
    stats: Mapping[str, FieldStats]
    dim: int
    sparse: bool = False
    seed: int = 0
    read: Callable[[str, str, Tensor], tuple[Tensor, Tensor]] | None = None


class Encoder(Component, nn.Module):
    """Base of encoders.

    A subclass implements ``embed``; ``forward`` then replaces tokens of missing and hidden values by two learned vectors a field (the
    hidden one is the "default embedding" of Yao et al. 2021), so that what a hidden value was can change no output (wall 6).
    """

    accepts: ClassVar[frozenset[str]]
    """Field types it can serve. An options class that has the same attribute lets a run file be checked without torch."""

    context: EncoderContext

    def __init__(self, config: object, *, context: EncoderContext) -> None:
        super().__init__(config, context=context)
        self._row = {spec.name: i for i, spec in enumerate(context.fields)}
        # Not zeros: a row that holds nothing else would sit at the origin, where a direction has no gradient and would never be learned.
        self.missing = nn.Parameter(torch.empty(len(context.fields), context.dim).normal_(std=0.02))
        self.hidden = nn.Parameter(torch.empty(len(context.fields), context.dim).normal_(std=0.02))

    @abstractmethod
    def embed(self, spec: FieldSpec, column: Column) -> tuple[Tensor, Tensor | None]:
        """Embed one field, as if every value were there and visible (values that are not hold zeros).

        Returns:
            x [B, L, D] and pad bool [B, L] (True where a row has no such token, padding last; None when every row has all). A ragged
            column gives either one token a value, in order (L = longest row, at least 1), or one token a row.
        """

    @property
    def reads(self) -> str | None:
        """The tower whose rows it reads in place of a table of its own; see ``refresh``."""
        return None

    def refresh(self, keys: Mapping[str, Column], rows: Tensor) -> None:
        """Keep what the tower that it ``reads`` gives now, for use without that tower's table: at validation, in a bundle.

        Args:
            keys: domain → codes of the keys of the M rows of the tower's table.
            rows: the tower's vectors, [M, D].
        """

    def derived(self) -> tuple[str, ...]:
        """Names of buffers that ``refresh`` makes; a warm start does not take them over."""
        return ()

    def one_token_a_value(self, spec: FieldSpec) -> bool:
        """Whether ``embed`` gives one token for each value of a ragged field (else one a row)."""
        return False

    def appends_hidden(self, spec: FieldSpec) -> bool:
        """Whether a row's last value is followed by a token that stands for a hidden one: what comes next (BERT4Rec, Sun et al. 2019)."""
        return False

    def max_tokens(self, spec: FieldSpec) -> int:
        """Most tokens that a row of the field can give: trunks size their position tables by it."""
        if not self.one_token_a_value(spec):
            return 1
        length = self.context.stats[spec.name].max_length
        if length is None:
            raise UsageError(f"field '{spec.name}' of type {spec.type} does not say how many values a row may have: set its max_length")
        return max(1, length)

    def tables(self) -> Iterable[nn.Parameter]:
        """The parameters that are embedding tables.

        A table optimiser trains them, and gradient clipping leaves sparse ones out. A table with a row for each code of a vocabulary
        (in the order of the codes, which growth keeps) may have more rows after a warm start than before; the old ones are carried over
        (see ``growing_tables``).
        """
        return ()

    def growing_tables(self) -> Iterable[nn.Parameter]:
        """Of the tables, those with a row for each code: they alone may have more rows after a warm start. All, unless said otherwise."""
        return self.tables()

    def table_report(self) -> TableReport | None:
        """Size and collisions of its tables, for people; None when it has none, or does not say."""
        return None

    def forward(self, columns: Mapping[str, Column], view: View) -> Tokens:
        """Encode the fields of this encoder that ``columns`` holds (at least one); see ``View`` for what is hidden."""
        return Tokens.cat([self._tokens(spec, columns[spec.name], view) for spec in self.context.fields if spec.name in columns])

    def _tokens(self, spec: FieldSpec, column: Column, view: View) -> Tokens:
        hide, hide_values = _masks(spec.name, column, view)
        appends = self.appends_hidden(spec) and view.batch.asks != "own"  # there, hidden values are in the row itself
        if appends:  # in all as many tokens as a row had in training
            column, hide_values = _last(column, hide_values, max(1, self.max_tokens(spec) - 1))
        if hide_values is not None and (view.fill == "drop" or not self.one_token_a_value(spec)):
            column, hide_values = drop_values(column, hide_values), None
        x, pad = self.embed(spec, _blank(column, hide, hide_values))
        if pad is None:
            pad = torch.zeros(x.shape[:2], dtype=torch.bool, device=x.device)
        row = self._row[spec.name]
        if column.present is not None:
            x, pad = _fill(x, pad, ~column.present, self.missing[row])
        shown = torch.zeros_like(pad)
        if hide_values is not None:
            shown = padded(Column(hide_values, column.offsets, longest=column.longest))[0]
            x = torch.where(shown.unsqueeze(-1), self.hidden[row].to(x.dtype), x)
        if hide is not None and view.fill == "replace":
            x, pad = _fill(x, pad, hide, self.hidden[row])
            shown = torch.where(hide.unsqueeze(1), ~pad, shown)
        elif hide is not None:
            pad = pad | hide.unsqueeze(1)
            shown = shown & ~pad
            x = x.masked_fill(hide.view(-1, 1, 1), 0.0)
        if appends:
            x, pad, shown = _append(x, pad, shown, self.hidden[row])
        return Tokens(x, pad, shown, {spec.name: slice(0, x.shape[1])})


def drop_values(column: Column, hide: Tensor) -> Column:
    """A ragged column without the values where ``hide`` (bool [T]) is True; rows may become empty lists."""
    assert column.offsets is not None
    keep = ~hide
    kept = torch.zeros(hide.shape[0] + 1, dtype=torch.int64, device=hide.device)
    torch.cumsum(keep, 0, out=kept[1:])
    return Column(column.values.index_select(0, keep.nonzero().squeeze(1)), kept.index_select(0, column.offsets), column.present)


def _masks(name: str, column: Column, view: View) -> tuple[Tensor | None, Tensor | None]:
    """The field's row mask [B] and value mask [T]; shapes are checked, since a wrong one could broadcast."""
    hide, hide_values = view.hidden.get(name), view.hidden_values.get(name)
    if hide is not None and hide.shape != (len(column),):
        raise UsageError(
            f"field '{name}': the mask of hidden rows has shape {list(hide.shape)}, the batch {len(column)} rows; "
            "masks of single values of a list go in hidden_values"
        )
    if hide_values is not None and (not column.ragged or hide_values.shape != column.values.shape[:1]):
        raise UsageError(
            f"field '{name}': the mask of hidden values has shape {list(hide_values.shape)}, "
            f"but the field {f'has {column.values.shape[0]} values' if column.ragged else 'has no lists: use hidden'}"
        )
    return hide, hide_values


def _blank(column: Column, hide: Tensor | None, hide_values: Tensor | None) -> Column:
    """Zeros in place of values that are missing or hidden, so that no code out of range and no NaN reaches a weight or its gradient."""
    mask = hide_values
    if column.offsets is None:
        absent = None if column.present is None else ~column.present
        mask = absent if hide is None else hide if absent is None else hide | absent
    elif hide is not None:
        rows = torch.repeat_interleave(hide, column.lengths(), output_size=column.values.shape[0])
        mask = rows if mask is None else mask | rows
    if mask is None:
        return column
    values = column.values.masked_fill(mask.view(-1, *([1] * (column.values.dim() - 1))), 0)
    return Column(values, column.offsets, column.present, column.longest)


def _fill(x: Tensor, pad: Tensor, rows: Tensor, vector: Tensor) -> tuple[Tensor, Tensor]:
    """Give ``rows`` the single token ``vector`` in place of whatever they have, so that not even their number of values shows."""
    first = torch.zeros_like(pad)
    first[:, 0] = True
    x = torch.where(rows.view(-1, 1, 1), vector.to(x.dtype) * first.unsqueeze(-1), x)
    return x, torch.where(rows.unsqueeze(1), ~first, pad)


def _last(column: Column, hide: Tensor | None, count: int) -> tuple[Column, Tensor | None]:
    """The last values of each row of a ragged column, and what is hidden of them."""
    assert column.offsets is not None
    length = column.lengths().clamp(max=count)
    index, offsets = ragged_ranges(column.offsets[1:] - length, length)
    hidden = None if hide is None else hide.index_select(0, index)
    return Column(column.values.index_select(0, index), offsets, column.present), hidden


def _append(x: Tensor, pad: Tensor, hidden: Tensor, vector: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A further token behind the last of each row: x [B, L + 1, D], pad and hidden bool [B, L + 1]."""
    at = torch.arange(x.shape[1] + 1, device=x.device) == (~pad).sum(1, keepdim=True)
    x = torch.where(at.unsqueeze(-1), vector.to(x.dtype), F.pad(x, (0, 0, 0, 1)))
    return x, F.pad(pad, (0, 1), value=True) & ~at, F.pad(hidden, (0, 1)) | at
