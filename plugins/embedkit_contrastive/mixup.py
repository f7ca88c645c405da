"""A view whose tokens are mixtures of two views' tokens (Bandara et al. 2023, arXiv 2312.02151)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from embedkit.errors import UsageError
from embedkit.views import Augmentation, AugmentationContext, Mix, Random, View
from embedkit_contrastive.configs import MixupConfig


class Mixup(Augmentation):
    """``a * first + (1 - a) * second[permutation]``, one a and one permutation a batch.

    Rows of a table hold categories and lists, which have no mixture; their tokens have. So the model mixes what its encoders made of the
    two views, see ``embedkit.views.Mix``.
    """

    config: MixupConfig

    def __init__(self, config: MixupConfig, *, context: AugmentationContext) -> None:
        super().__init__(config, context=context)
        if context.makes != 1:
            raise UsageError(f"mixup makes one view, but {context.makes} are named in 'makes'")

    def __call__(self, view: View, random: Random) -> Sequence[View]:
        """A mixture of the view with itself, rows permuted."""
        return self.among(view, {self.config.other: view}, random)

    def among(self, view: View, views: Mapping[str, View], random: Random) -> Sequence[View]:
        """The mixed view.

        Raises:
            UsageError: the two views differ in their rows, or hold windows.
        """
        other = views[self.config.other]
        sizes = [len(next(iter(one.batch.columns.values()))) for one in (view, other)]
        if sizes[0] != sizes[1]:
            raise UsageError(f"mixup: the view and '{self.config.other}' have {sizes[0]} and {sizes[1]} rows: make both of one stream")
        if view.mix is not None or other.mix is not None:
            raise UsageError("mixup: a mixture cannot be mixed again; make it of streams, or of views of another augmentation")
        if view.batch.window is not None:
            raise UsageError("mixup: a stream with rows = 'windows' cannot be mixed; draw rows or events")
        rows = torch.randperm(sizes[0], generator=random.local)
        device = next(iter(view.batch.columns.values())).values.device
        return [replace(view, mix=Mix(other, rows.to(device), self._share(random)))]

    def _share(self, random: Random) -> float:
        """Beta(alpha, alpha): one a batch, so the same on every rank."""
        seed = int(torch.randint(2**62, (), generator=random.shared))
        return float(np.random.default_rng(seed).beta(self.config.alpha, self.config.alpha))
