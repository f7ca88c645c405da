"""InfoNCE over two views (van den Oord et al. 2018; the SSL loss of Yao et al. 2021)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from embedkit.nn.unit import unit
from embedkit.training.loss import Forward, Loss, LossContext, LossResult, Needs, Step, zero
from embedkit_contrastive.checks import require_pairs, require_tower
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
        """The mean over rows."""
        first, second = (self._vectors(step, view) for view in self.config.views)
        require_pairs("info_nce", self.config.views, first, second)
        if first.shape[0] == 0:
            return LossResult(zero(first) + zero(second))
        logits = (first / step.value(self.config.temperature)) @ second.T
        copies = self._copies(step, first.shape[0])
        if copies is not None:
            logits.masked_fill_(copies, -torch.inf)
        labels = torch.arange(first.shape[0], device=first.device)
        loss = F.cross_entropy(logits, labels)
        if self.config.symmetric:
            loss = 0.5 * (loss + F.cross_entropy(logits.T, labels))
        return LossResult(loss)

    def _vectors(self, step: Step, view: str) -> Tensor:
        outputs = step.run(view, self.config.tower)
        if not self.config.projector or outputs.embedding.shape[0] < 2:  # a single row has no statistics, and no negatives either
            return outputs.embedding.float()
        return unit(self.projector(outputs))

    def _copies(self, step: Step, size: int) -> Tensor | None:
        """bool [B, B], True where column j is row i once more."""
        rows = step.views[self.config.views[0]].batch.rows.get(self.table)
        if rows is None or rows.shape[0] != size:
            return None
        return (rows.unsqueeze(1) == torch.where(rows < 0, -2, rows)).fill_diagonal_(False)
