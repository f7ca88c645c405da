"""InfoNCE over two views (van den Oord et al. 2018; the SSL loss of Yao et al. 2021)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from embedkit.nn.chunked import MOST_LOGITS, cross_entropy
from embedkit.nn.gather import shards
from embedkit.nn.unit import unit
from embedkit.training.loss import Forward, Loss, LossContext, LossResult, Needs, Step, zero
from embedkit_contrastive.checks import require_pairs, require_tower, table_rows
from embedkit_contrastive.configs import InfoNCEConfig
from embedkit_contrastive.projector import Projector


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
        numbers = table_rows(step, self.config.views[0], self.table, first.shape[0])
        if self.config.projector and batch.total > 1:  # a single row has no statistics, and no negatives either
            first, second = (unit(self.projector(batch.gather(one.raw.float()))) for one in outputs)
            numbers = None if numbers is None else batch.gather(numbers)
            batch = batch.whole
        if len(batch.sizes) == 1 and batch.total**2 <= MOST_LOGITS:
            return LossResult(self._at_once(first * scale, second, numbers))
        rows = None if numbers is None else (numbers, batch.gather(torch.where(numbers < 0, -2, numbers)))
        own = batch.own(first.device)
        losses = cross_entropy(first, batch.gather(second), own, scale=scale, rows=rows)
        if self.config.symmetric:
            losses = 0.5 * (losses + cross_entropy(second, batch.gather(first), own, scale=scale, rows=rows))
        return LossResult(batch.mean(losses.sum(), torch.tensor(first.shape[0], device=first.device)))

    def _at_once(self, first: Tensor, second: Tensor, numbers: Tensor | None) -> Tensor:
        """A small batch: one matrix of logits serves both directions."""
        logits = first @ second.T
        if numbers is not None:
            copies = numbers.unsqueeze(1) == torch.where(numbers < 0, -2, numbers)
            logits.masked_fill_(copies.fill_diagonal_(False), -torch.inf)
        labels = torch.arange(first.shape[0], device=first.device)
        loss = F.cross_entropy(logits, labels)
        return 0.5 * (loss + F.cross_entropy(logits.T, labels)) if self.config.symmetric else loss
