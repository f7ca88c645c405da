"""A one-file plugin: the augmentation ``jitter`` adds noise to numbers, afresh for each view."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from pydantic import Field

from embedkit import hookimpl
from embedkit.component import Config
from embedkit.data.columns import Column
from embedkit.views import Augmentation, Random, View


class JitterConfig(Config):
    """Options of ``jitter``."""

    scale: float = Field(1.0, gt=0)
    """Standard deviation of the noise, in standard deviations of the column."""


class Jitter(Augmentation):
    """As many noisy copies of the view as are named."""

    config: JitterConfig

    def __call__(self, view: View, random: Random) -> Sequence[View]:
        """Add normal noise to every number."""
        return [replace(view, batch=replace(view.batch, columns=self._noisy(view, random))) for _ in range(self.context.makes)]

    def _noisy(self, view: View, random: Random) -> dict[str, Column]:
        found = dict(view.batch.columns)
        for name, column in found.items():
            if column.values.is_floating_point():
                noise = torch.randn(column.values.shape, generator=random.local).to(column.values.device)
                found[name] = replace(column, values=column.values + self.config.scale * noise)
        return found


@hookimpl
def register_augmentations(register):
    """Register ``jitter``."""
    register("jitter", Jitter, config=JitterConfig, summary="Numbers with noise of their own in each view.")
