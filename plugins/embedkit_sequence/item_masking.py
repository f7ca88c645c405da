"""ItemMasking: hide some values of sequences, to be told from what stands before and behind them (BERT4Rec, Sun et al. 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from embedkit.data.columns import Column
from embedkit.errors import UsageError
from embedkit.views import Augmentation, AugmentationContext, Random, View
from embedkit_sequence.configs import ItemMaskingConfig


class ItemMasking(Augmentation):
    """Each value of the sequences is hidden with a probability, at least one a row; in some rows the last one alone (arXiv 1904.06690,
    sections 3.6 and 4.1).

    Hidden values keep their place and have the field's learned hidden vector. The draw is each process's own.
    """

    config: ItemMaskingConfig

    def __init__(self, config: ItemMaskingConfig, *, context: AugmentationContext) -> None:
        super().__init__(config, context=context)
        for name in config.fields:
            if name not in context.fields or context.schema.fields[name].type != "sequence":
                raise UsageError(f"item_masking: field '{name}' is no sequence that the stream's batches hold; they hold {context.fields}")
        if context.makes != 1:
            raise UsageError(f"item_masking makes one view, but 'makes' names {context.makes}")

    def __call__(self, view: View, random: Random) -> Sequence[View]:
        """One view."""
        hidden = {name: self._draw(view.batch.columns[name], random) for name in self.config.fields}
        before = view.hidden_values
        return [replace(view, hidden_values={**before, **{n: before[n] | m if n in before else m for n, m in hidden.items()}})]

    def _draw(self, column: Column, random: Random) -> Tensor:
        """bool [T], on the column's device."""
        assert column.offsets is not None
        offsets, lengths = column.offsets.cpu(), column.lengths().cpu()
        count = int(offsets[-1])
        chance = torch.rand(count, generator=random.local)
        only_last = torch.rand(len(lengths), generator=random.local) < self.config.last
        hidden = (chance < self.config.share) & ~torch.repeat_interleave(only_last, lengths, output_size=count)
        row = torch.repeat_interleave(torch.arange(len(lengths)), lengths, output_size=count)
        none = (torch.zeros(len(lengths), dtype=torch.int64).index_add_(0, row, hidden.long()) == 0) & (lengths > 0)
        place = (torch.rand(len(lengths), generator=random.local) * lengths).long().clamp(max=(lengths - 1).clamp(min=0))
        place = torch.where(only_last, lengths - 1, place)
        hidden[(offsets[:-1] + place)[none]] = True
        return hidden.to(column.values.device)
