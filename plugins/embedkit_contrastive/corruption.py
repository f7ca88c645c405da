"""Views with corrupted cells (SCARF: Bahri et al. 2022, arXiv 2106.15147, section 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Generator, Tensor

from embedkit.data.batch import Batch
from embedkit.data.columns import Column
from embedkit.errors import UsageError
from embedkit.views import Augmentation, AugmentationContext, Random, View
from embedkit_contrastive.configs import CorruptionConfig


class Corruption(Augmentation):
    """Each cell is replaced, with a fixed probability, by that column's cell of another row of the batch, drawn for each cell anew.

    So a column keeps its distribution and loses its tie to the row. What is missing there is missing here, and lists travel whole. Every
    view is drawn on its own; SCARF contrasts one with the untouched batch, two corrupted ones are compared here as well. (The paper
    corrupts a fixed number of the row's columns; here the number is binomial.)
    """

    config: CorruptionConfig

    def __init__(self, config: CorruptionConfig, *, context: AugmentationContext) -> None:
        super().__init__(config, context=context)
        specs = context.schema.fields
        features = [name for name in context.fields if specs[name].role in ("feature", "time", "key")]
        chosen = [name for name in features if specs[name].table == context.table and specs[name].role != "key"]
        if config.fields is not None:
            for name in config.fields:
                if name not in features:
                    raise UsageError(
                        f"corruption: field '{name}' is no feature in the batches of table '{context.table}', "
                        f"which hold {', '.join(features) or 'none'}: no tower that a loss asks of this stream reads it"
                    )
            chosen = list(config.fields)
        if not chosen:
            raise UsageError(f"corruption: the batches of table '{context.table}' hold no feature but its key; name fields, or add some")
        self.fields = tuple(chosen)

    def __call__(self, view: View, random: Random) -> Sequence[View]:
        """As many views as are named.

        Raises:
            UsageError: the batch holds windows, whose rows are users with targets of their own.
        """
        if view.batch.window is not None:
            raise UsageError("corruption: a stream with rows = 'windows' cannot be corrupted; draw rows or events")
        return [self._corrupted(view, random.local) for _ in range(self.context.makes)]

    def _corrupted(self, view: View, local: Generator) -> View:
        columns, hidden_values = dict(view.batch.columns), dict(view.hidden_values)
        for name in self.fields:
            column = columns[name]
            source = self._source(len(column), local).to(column.values.device)
            columns[name] = column.take(source)
            if name in hidden_values:  # a mask of single values goes where the values go
                hidden_values[name] = Column(hidden_values[name], column.offsets).take(source).values
        batch = view.batch
        return replace(view, batch=Batch(columns, batch.rows, batch.labels, batch.extras), hidden_values=hidden_values)

    def _source(self, rows: int, local: Generator) -> Tensor:
        """For each row the row that its cell comes from, int64 [B]: itself, or, where a coin says so, any other. Drawn on the CPU."""
        own = torch.arange(rows)
        if rows < 2:
            return own
        other = (own + torch.randint(1, rows, (rows,), generator=local)) % rows
        return torch.where(torch.rand(rows, generator=local) < self.config.share, other, own)
