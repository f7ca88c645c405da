"""InfoNCE over two views (van den Oord et al. 2018; the SSL loss of Yao et al. 2021)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from embedkit.nn.gather import Shards, shards
from embedkit.nn.sampled_cross_entropy import sampled_cross_entropy
from embedkit.nn.unit import unit
from embedkit.training.loss import Forward, Loss, LossContext, LossResult, Needs, Step, zero
from embedkit_contrastive.checks import require_pairs, require_tower, table_rows
from embedkit_contrastive.configs import InfoNCEConfig
from embedkit_contrastive.projector import Projector

_AT_ONCE = 2**24
"""Logits of a batch that are made as one matrix, 64 MiB in float32; those of a larger one are never held whole."""


class InfoNCE(Loss):
    """``-1/B sum_i log softmax_j(s(a_i, b_j) / temperature)`` at j = i; symmetric: the mean with a and b exchanged.

    Where a batch holds a row of the tower's table twice, the copy is left out of the other's negatives. With a projector, s compares
    projections of unit length, and prefixes of the embedding are not trained one by one.
    """

    config: InfoNCEConfig

    def __init__(self, config: InfoNCEConfig, *, context: LossContext) -> None:
        super().__init__(config, context=context)
        require_tower("info_nce", config.tower, context)
        self.table = context.schema.towers[config.tower].table
        self.projector = Projector(context.tower_dims[config.tower], config.projector)
        self.per_prefix = not config.projector
        self._needs = Needs(tuple(Forward(view, config.tower) for view in config.views))

    @property
    def needs(self) -> Needs:
        """The tower on both views."""
        return self._needs

    def forward(self, step: Step) -> LossResult:
        """The mean over rows. Rows of all processes are negatives (decision 16)."""
        outputs = [step.run(view, self.config.tower) for view in self.config.views]
        first, second = (one.embedding.float() for one in outputs)
        require_pairs("info_nce", self.config.views, first, second)
        batch = shards(first.shape[0], first.device)
        if batch.total == 0:
            return LossResult(zero(first) + zero(second))
        scale = 1.0 / step.value(self.config.temperature)
        bounded = all(one.normalized for one in outputs)
        numbers = table_rows(step, self.config.views[0], self.table, first.shape[0])
        if self.config.projector and batch.total > 1:  # a single row has no statistics, and no negatives either
            first, second = (unit(self.projector(batch.gather(one.raw.float()))) for one in outputs)
            numbers = None if numbers is None else batch.gather(numbers)
            batch, bounded = batch.whole, True
        if len(batch.sizes) == 1 and batch.total**2 <= _AT_ONCE:
            return LossResult(self._at_once(first * scale, second, numbers))
        total = self._one_way(first, second, batch, numbers, scale, bounded)
        if self.config.symmetric:
            total = 0.5 * (total + self._one_way(second, first, batch, numbers, scale, bounded))
        return LossResult(batch.mean(total, torch.tensor(first.shape[0], device=first.device)))

    def _one_way(self, asking: Tensor, answers: Tensor, batch: Shards, numbers: Tensor | None, scale: float, bounded: bool) -> Tensor:
        """The sum over the own rows, told among the answers of all processes."""
        own = batch.own(asking.device)
        numbers = own if numbers is None else torch.where(numbers < 0, -1 - own, numbers)  # an unknown row is a copy of none
        return sampled_cross_entropy(
            asking,
            (asking * answers).sum(1) * scale,
            batch.gather(answers),
            asking.new_ones(asking.shape[0]),
            left_out=(numbers, batch.gather(numbers)),
            scale=scale,
            bounded=bounded,
            precision=self.context.precision,
        )

    def _at_once(self, first: Tensor, second: Tensor, numbers: Tensor | None) -> Tensor:
        """A small batch: one matrix of logits serves both directions."""
        logits = first @ second.T
        if numbers is not None:
            copies = numbers.unsqueeze(1) == torch.where(numbers < 0, -2, numbers)
            logits.masked_fill_(copies.fill_diagonal_(False), -torch.inf)
        labels = torch.arange(first.shape[0], device=first.device)
        loss = F.cross_entropy(logits, labels)
        return 0.5 * (loss + F.cross_entropy(logits.T, labels)) if self.config.symmetric else loss
