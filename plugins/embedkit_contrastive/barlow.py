"""Barlow Twins (Zbontar et al. 2021, arXiv 2103.03230) and Mixed Barlow Twins (Bandara et al. 2023, arXiv 2312.02151)."""

from __future__ import annotations

import torch
from torch import Tensor

from embedkit.errors import UsageError
from embedkit.nn.gather import shards
from embedkit.nn.unit import unit
from embedkit.training.loss import Forward, Loss, LossContext, LossResult, Needs, Step, zero
from embedkit_contrastive.checks import require_pairs, require_tower
from embedkit_contrastive.configs import BarlowTwinsConfig, MixedBarlowTwinsConfig
from embedkit_contrastive.projector import Projector

_TINY = 1e-8
"""Added to variances: a number that is the same in every row is then zero, not NaN."""


class BarlowTwins(Loss):
    """``sum_i (1 - C_ii)^2 + lambda * sum_{i != j} C_ij^2``, C the correlations of the two views' projections over the batch.

    Projections are standardised with the unbiased deviation, and C divides by B, as the authors' code does. The sums grow with the
    projection's width, and so do good learning rates shrink. A batch of one row has no correlations and counts as zero. Correlations are
    no mean over rows: with several processes each gathers the rows of all and computes the whole batch's.
    """

    config: BarlowTwinsConfig

    def __init__(self, config: BarlowTwinsConfig, *, context: LossContext) -> None:
        super().__init__(config, context=context)
        require_tower("barlow_twins", config.tower, context)
        self.projector = Projector(context.tower_dims[config.tower], config.projector)
        self._needs = Needs(tuple(Forward(view, config.tower) for view in self._views))

    @property
    def _views(self) -> tuple[str, ...]:
        return self.config.views

    @property
    def needs(self) -> Needs:
        """The tower on every view."""
        return self._needs

    def forward(self, step: Step) -> LossResult:
        """The loss of the batch; ``diagonal`` and ``redundancy`` are its two sums, before lambda."""
        raws = [step.run(view, self.config.tower).raw for view in self.config.views]
        require_pairs("barlow_twins", self.config.views, raws[0], raws[1])
        batch = shards(raws[0].shape[0], raws[0].device)
        if batch.total < 2:
            return LossResult(zero(raws[0]) + zero(raws[1]))
        first, second = (self._standardised(batch.gather(raw.float())) for raw in raws)
        return self._twins(step, first, second)

    def _twins(self, step: Step, first: Tensor, second: Tensor) -> LossResult:
        found = correlation(first, second)
        diagonal = found.diagonal()
        off = found.square().sum() - diagonal.square().sum()
        on = (1 - diagonal).square().sum()
        return LossResult(on + step.value(self.config.redundancy) * off, {"diagonal": on.detach(), "redundancy": off.detach()})

    def _standardised(self, raw: Tensor) -> Tensor:
        """Projections of a view's rows [B, E], each number with mean 0 and deviation 1 over them, float32 [B, D]."""
        z: Tensor = self.projector(raw)
        if self.config.unit_length:
            z = unit(z)
        return (z - z.mean(0)) * torch.rsqrt(z.var(0, correction=1) + _TINY)


class MixedBarlowTwins(BarlowTwins):
    """Barlow Twins, and mixed rows must correlate with each view as the same mixture of the views does.

    With z_M of the mixed view, standardised by its own batch, a its share and p its permutation:
    ``mixed = |z_M' z_A - a z_A' z_A - (1-a) z_B[p]' z_A|^2 + |z_M' z_B - a z_A' z_B - (1-a) z_B[p]' z_B|^2``, all divided by B, and the
    loss is that of the twins plus ``mixed_scale * lambda * mixed``. The targets have a gradient too, as in the authors' code.
    """

    config: MixedBarlowTwinsConfig

    @property
    def _views(self) -> tuple[str, ...]:
        return (*self.config.views, self.config.mixed)

    def forward(self, step: Step) -> LossResult:
        """The loss of the batch.

        Raises:
            UsageError: the mixed view is no mixture, or not one of the first view with the second.
        """
        names = self.config.views
        raws = [step.run(view, self.config.tower).raw for view in self._views]
        require_pairs("mixed_barlow_twins", names, raws[0], raws[1])
        mix = step.views[self.config.mixed].mix
        if mix is None or mix.other is not step.views[names[1]]:
            raise UsageError(
                f"mixed_barlow_twins: view '{self.config.mixed}' must be made by mixup of '{names[0]}' with other = '{names[1]}'"
            )
        batch = shards(raws[0].shape[0], raws[0].device)
        if batch.total < 2:
            return LossResult(zero(raws[0]) + zero(raws[1]) + zero(raws[2]))
        first, second, mixed = (self._standardised(batch.gather(raw.float())) for raw in raws)
        twins = self._twins(step, first, second)
        permuted, share = second.index_select(0, batch.gather(mix.rows + batch.offset)), mix.share
        gap = torch.zeros((), device=first.device)
        for view in (first, second):
            target = share * correlation(first, view) + (1 - share) * correlation(permuted, view)
            gap = gap + (correlation(mixed, view) - target).square().sum()
        weight = step.value(self.config.mixed_scale) * step.value(self.config.redundancy)
        return LossResult(twins.loss + weight * gap, {**twins.parts, "mixed": gap.detach()})


def correlation(first: Tensor, second: Tensor) -> Tensor:
    """[B, D] and [B, D] → [D, D], divided by B."""
    return first.T @ second / first.shape[0]
