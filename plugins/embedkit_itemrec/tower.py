"""TowerEncoder: ids as the vectors of the tower that embeds them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from embedkit.data.columns import Column, padded
from embedkit.errors import UsageError
from embedkit.nn.encoder import Encoder, EncoderContext
from embedkit.schema import FieldSpec
from embedkit_itemrec.configs import TowerEncoderConfig


class TowerEncoder(Encoder):
    """An id → what another tower's trunk makes of that id's row: one item tower for histories and for targets.

    While training, each distinct row of a batch is computed once, with gradient; where a loss looks at the whole catalogue, its forward is
    shared. ``refresh`` then keeps the vectors by code, and only these are used in evaluation and in a bundle, which has no item table. An
    id that the vocabulary lacks has a learned vector, as an empty list has.
    """

    accepts = TowerEncoderConfig.accepts
    config: TowerEncoderConfig
    vectors: Tensor

    def __init__(self, config: TowerEncoderConfig, *, context: EncoderContext) -> None:
        super().__init__(config, context=context)
        domains = {spec.domain for spec in context.fields}
        if len(domains) > 1:
            raise UsageError(f"encoder 'tower': its fields must share one domain, they have {', '.join(sorted(domains))}")
        self.domain = domains.pop()
        size = context.stats[context.fields[0].name].size
        assert size is not None
        self.unknown = nn.Parameter(torch.empty(context.dim).normal_(std=0.02))
        self.empty = nn.Parameter(torch.empty(context.dim).normal_(std=0.02))
        self.register_buffer("vectors", torch.zeros(size, context.dim))

    @property
    def reads(self) -> str:
        """The tower that the options name."""
        return self.config.tower

    def derived(self) -> tuple[str, ...]:
        """The kept vectors."""
        return ("vectors",)

    def one_token_a_value(self, spec: FieldSpec) -> bool:
        """Sequences."""
        return spec.type == "sequence"

    def appends_hidden(self, spec: FieldSpec) -> bool:
        """As the options say, for sequences."""
        return self.config.append_hidden and spec.type == "sequence"

    def refresh(self, keys: Mapping[str, Column], rows: Tensor) -> None:
        """See ``Encoder.refresh``. Codes without a row of the table keep the unknown vector."""
        self.vectors.copy_(self.unknown.expand_as(self.vectors))
        codes = keys[self.domain].values
        known = (codes > 0).nonzero().squeeze(1)
        self.vectors.index_copy_(0, codes.index_select(0, known), rows.index_select(0, known))

    def embed(self, spec: FieldSpec, column: Column) -> tuple[Tensor, Tensor | None]:
        """See ``Encoder.embed``."""
        if column.offsets is None:
            return self._lookup(column.values).unsqueeze(1), None
        codes, pad = padded(column)
        x = self._lookup(codes).masked_fill(pad.unsqueeze(-1), 0.0)
        first = torch.zeros_like(pad)
        first[:, 0] = column.lengths() == 0
        return torch.where(first.unsqueeze(-1), self.empty.to(x.dtype), x), pad & ~first

    def _lookup(self, codes: Tensor) -> Tensor:
        """Codes [...] → [..., D]."""
        if not self.training:
            return F.embedding(codes, self.vectors)
        assert self.context.read is not None
        vectors, known = self.context.read(self.config.tower, self.domain, codes.flatten())
        vectors = torch.where(known.unsqueeze(1), vectors, self.unknown.to(vectors.dtype))
        return vectors.view(*codes.shape, -1)
