"""TableEncoder: how columns of codes become tokens, whatever table the codes are looked up in."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn

from embedkit.data.columns import Column, padded
from embedkit.nn.encoder import Encoder, EncoderContext
from embedkit.schema import FieldSpec
from embedkit_unified.configs import TableConfig


class TableEncoder(Encoder):
    """Base of encoders that look codes up in tables.

    A ``category`` gives one token, ``categories`` one token, the mean of the row's values. A ``sequence`` gives one token a value, or
    with ``pool_sequences`` one token, their mean. A row whose list is empty has one token, a vector learned for the field.
    """

    accepts = TableConfig.accepts
    config: TableConfig

    def __init__(self, config: TableConfig, *, context: EncoderContext) -> None:
        super().__init__(config, context=context)
        self.empty = nn.Parameter(torch.empty(len(context.fields), context.dim).normal_(std=0.02))

    @abstractmethod
    def lookup(self, spec: FieldSpec, codes: Tensor) -> Tensor:
        """Codes int64 [...] → [..., D]."""

    @abstractmethod
    def mean(self, spec: FieldSpec, codes: Tensor, offsets: Tensor) -> Tensor:
        """Codes int64 [T], offsets [B + 1] → the mean of each list, [B, D]; anything for empty lists."""

    def one_token_a_value(self, spec: FieldSpec) -> bool:
        """Sequences, unless they are pooled."""
        return spec.type == "sequence" and not self.config.pool_sequences

    def appends_hidden(self, spec: FieldSpec) -> bool:
        """As the options say, for sequences of one token a value."""
        return self.config.append_hidden and self.one_token_a_value(spec)

    def embed(self, spec: FieldSpec, column: Column) -> tuple[Tensor, Tensor | None]:
        """See ``Encoder.embed``."""
        codes = column.values
        if self.training and self.config.unknown_dropout:
            codes = codes.masked_fill(torch.rand(codes.shape, device=codes.device) < self.config.unknown_dropout, 0)
        if column.offsets is None:
            return self.lookup(spec, codes).unsqueeze(1), None
        empty = self.empty[self._row[spec.name]]
        nothing = (column.lengths() == 0).unsqueeze(1)
        if not self.one_token_a_value(spec):
            x = self.mean(spec, codes, column.offsets)
            return torch.where(nothing, empty.to(x.dtype), x).unsqueeze(1), None
        codes, pad = padded(Column(codes, column.offsets, longest=column.longest))
        x = self.lookup(spec, codes).masked_fill(pad.unsqueeze(-1), 0.0)
        first = torch.zeros_like(pad)
        first[:, 0] = True
        first &= nothing
        return torch.where(first.unsqueeze(-1), empty.to(x.dtype), x), pad & ~first
