"""A one-file plugin: the augmentation ``drop_words`` leaves words out of texts, others for each view."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from pydantic import Field

from embedkit import hookimpl
from embedkit.component import Config
from embedkit.data.columns import Column
from embedkit.views import Augmentation, Random, View


class DropWordsConfig(Config):
    """Options of ``drop_words``."""

    share: float = Field(0.5, gt=0, lt=1)
    """Each word is left out with this probability."""


class DropWords(Augmentation):
    """As many thinned copies of the view as are named. A text that would lose all its words keeps them."""

    config: DropWordsConfig

    def __call__(self, view: View, random: Random) -> Sequence[View]:
        """Leave words out of every text."""
        return [replace(view, batch=replace(view.batch, columns=self._thinned(view, random))) for _ in range(self.context.makes)]

    def _thinned(self, view: View, random: Random) -> dict[str, Column]:
        return {name: column if column.offsets is None else self._thin(column, random) for name, column in view.batch.columns.items()}

    def _thin(self, column: Column, random: Random) -> Column:
        assert column.offsets is not None
        kept = (torch.rand(len(column.values), generator=random.local) >= self.config.share).to(column.values.device)
        row = torch.repeat_interleave(torch.arange(len(column), device=kept.device), column.lengths())
        left = torch.zeros(len(column), dtype=torch.int64, device=kept.device).index_add_(0, row, kept.long())
        kept = kept | (left == 0).index_select(0, row)
        lengths = torch.where(left == 0, column.lengths(), left)
        offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
        return replace(column, values=column.values[kept], offsets=offsets)


@hookimpl
def register_augmentations(register):
    """Register ``drop_words``."""
    register("drop_words", DropWords, config=DropWordsConfig, summary="Texts without some of their words, others in each view.")
