"""HashedText: text as the weighted mean of the table rows of its words and character n-grams."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from embedkit.data.columns import Column
from embedkit.nn.encoder import Encoder, EncoderContext
from embedkit.nn.named import attribute
from embedkit.schema import FieldSpec
from embedkit_text.configs import HashedTextConfig


class HashedText(Encoder):
    """One token a row: ``sum_i w_i E[h_i mod buckets] / sum_i w_i`` over the hashes of the row's words and n-grams.

    The weights are the field's inverse document frequencies (``FieldStats.extras["idf"]``, float32 [n], that of hash h at h mod n)
    where there are any; a hash that training never saw has weight 0, for its row holds nothing but noise. All fields share one table,
    so a word means the same in a title and in a description. A text without a word, or without a known one, has a vector learned for
    the field. (Joulin et al. 2017, arXiv 1607.01759, for the bag of hashed n-grams.)
    """

    accepts = HashedTextConfig.accepts
    config: HashedTextConfig

    def __init__(self, config: HashedTextConfig, *, context: EncoderContext) -> None:
        super().__init__(config, context=context)
        self.weight = nn.Parameter(torch.empty(config.buckets, context.dim).normal_(std=config.init_std))
        self.empty = nn.Parameter(torch.empty(len(context.fields), context.dim).normal_(std=0.02))
        for spec in context.fields:
            idf = context.stats[spec.name].extras.get("idf") if config.weighted else None
            kept = None if idf is None else torch.as_tensor(idf, dtype=torch.float32)
            self.register_buffer(f"idf_{attribute(spec.name)}", kept, persistent=False)

    def tables(self) -> Iterable[nn.Parameter]:
        """The one table."""
        return [self.weight]

    def embed(self, spec: FieldSpec, column: Column) -> tuple[Tensor, Tensor | None]:
        """See ``Encoder.embed``."""
        assert column.offsets is not None
        weights, nothing = self._weights(spec, column)
        # embedding_bag weighs in mode "sum" only, so the weights are made to sum to one first.
        x = F.embedding_bag(
            torch.remainder(column.values, self.config.buckets),
            self.weight,
            column.offsets,
            mode="mean" if weights is None else "sum",
            per_sample_weights=weights,
            include_last_offset=True,
            sparse=self.context.sparse,
        )
        empty = self.empty[self.context.fields.index(spec)]
        return torch.where(nothing.unsqueeze(1), empty.to(x.dtype), x).unsqueeze(1), None

    def _weights(self, spec: FieldSpec, column: Column) -> tuple[Tensor | None, Tensor]:
        """Weights float32 [T], summing to one in each row (None: all count the same), and bool [B], True for rows without any."""
        idf = cast(Tensor | None, getattr(self, f"idf_{attribute(spec.name)}"))
        if idf is None or column.offsets is None:
            return None, column.lengths() == 0
        weights = idf.index_select(0, torch.remainder(column.values, idf.shape[0]))
        total = torch.segment_reduce(weights, "sum", offsets=column.offsets, unsafe=True)
        nothing = total == 0
        share = torch.repeat_interleave(total.masked_fill(nothing, 1.0), column.lengths(), output_size=weights.shape[0])
        return weights / share, nothing
