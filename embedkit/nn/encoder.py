"""Encoder: Columns of one or more fields → Tokens. The base puts learned embeddings where values are missing or hidden."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from embedkit.component import Component
from embedkit.data.codec import FieldStats
from embedkit.data.columns import Column, padded
from embedkit.nn.values import Tokens
from embedkit.schema import FieldSpec
from embedkit.views import View


@dataclass(frozen=True)
class EncoderContext:
    """What an encoder is built from besides its options.

    Attributes:
        fields: the fields it serves, in run-file order.
        stats: field → statistics of its codec.
        dim: token width D.
        sparse: whether its tables are trained by an optimiser that wants sparse gradients.
        seed: of the run, for salts and other draws that are not weights.
    """

    fields: tuple[FieldSpec, ...]
    stats: Mapping[str, FieldStats]
    dim: int
    sparse: bool = False
    seed: int = 0


class Encoder(Component, nn.Module):
    """Base of encoders.

    A subclass implements ``embed``; ``forward`` then replaces tokens of missing and hidden values by two learned vectors a field (the
    hidden one is the "default embedding" of Yao et al. 2021), so that what a hidden value was can change no output (wall 6).
    """

    accepts: ClassVar[frozenset[str]]
    """Field types it can serve."""

    context: EncoderContext

    def __init__(self, config: object, *, context: EncoderContext) -> None:
        super().__init__(config, context=context)
        names = [spec.name for spec in context.fields]
        self._row = {name: i for i, name in enumerate(names)}
        self.missing = nn.Parameter(torch.zeros(len(names), context.dim))
        self.hidden = nn.Parameter(torch.zeros(len(names), context.dim))

    @abstractmethod
    def embed(self, spec: FieldSpec, column: Column) -> tuple[Tensor, Tensor | None]:
        """Embed one field, as if every value were there and visible.

        Returns:
            x [B, L, D] and pad bool [B, L] (True where a row has no such token; None when every row has all). A ragged column gives
            either one token a value, in order (L = longest row), or one token a row.
        """

    def tables(self) -> Iterable[nn.Parameter]:
        """The parameters that are embedding tables: a table optimiser trains them, gradient clipping leaves sparse ones out."""
        return ()

    def forward(self, columns: Mapping[str, Column], view: View) -> Tokens:
        """Encode the fields of this encoder that ``columns`` holds; see ``View`` for what is hidden."""
        return Tokens.cat([self._tokens(spec, columns[spec.name], view) for spec in self.context.fields if spec.name in columns])

    def _tokens(self, spec: FieldSpec, column: Column, view: View) -> Tokens:
        hide = view.hidden.get(spec.name)
        by_value = hide is not None and column.ragged and hide.shape[0] == column.values.shape[0]
        if hide is not None and by_value and (view.fill == "drop" or not self.one_token_a_value(spec)):
            column, hide = drop_values(column, hide), None
        x, pad = self.embed(spec, column)
        if pad is None:
            pad = torch.zeros(x.shape[:2], dtype=torch.bool, device=x.device)
        row = self._row[spec.name]
        if column.present is not None:
            x, pad = self._fill(x, pad, ~column.present, self.missing[row])
        shown = torch.zeros_like(pad)
        if hide is not None:
            if by_value:
                shown = padded(Column(hide, column.offsets), x.shape[1])[0]
                x = torch.where(shown.unsqueeze(-1), self.hidden[row], x)
            elif view.fill == "replace":
                x, pad = self._fill(x, pad, hide, self.hidden[row])
                shown = hide.unsqueeze(1) & ~pad
            else:
                pad = pad | hide.unsqueeze(1)
                x = x.masked_fill(hide.view(-1, 1, 1), 0.0)
        return Tokens(x, pad, shown, {spec.name: slice(0, x.shape[1])})

    def one_token_a_value(self, spec: FieldSpec) -> bool:
        """Whether ``embed`` gives one token for each value of a ragged field (else one a row)."""
        return False

    @staticmethod
    def _fill(x: Tensor, pad: Tensor, rows: Tensor, vector: Tensor) -> tuple[Tensor, Tensor]:
        """Give ``rows`` the single token ``vector`` in place of whatever they have, so that not even their number of values shows."""
        first = torch.zeros_like(pad)
        first[:, 0] = True
        x = torch.where(rows.view(-1, 1, 1), vector.to(x.dtype) * first.unsqueeze(-1), x)
        return x, torch.where(rows.unsqueeze(1), ~first, pad)


def drop_values(column: Column, hide: Tensor) -> Column:
    """A ragged column without the values where ``hide`` (bool [T]) is True; rows may become empty lists."""
    assert column.offsets is not None
    keep = ~hide
    kept = torch.zeros(hide.shape[0] + 1, dtype=torch.int64, device=hide.device)
    torch.cumsum(keep, 0, out=kept[1:])
    return Column(column.values.index_select(0, keep.nonzero().squeeze(1)), kept.index_select(0, column.offsets), column.present)
