"""InfoNCE over two views (van den Oord et al. 2018; the SSL loss of Yao et al. 2021)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from embedkit.errors import UsageError
from embedkit.training.loss import Forward, Loss, LossContext, LossResult, Needs, Step, zero
from embedkit_contrastive.configs import InfoNCEConfig


class InfoNCE(Loss):
    """``-1/B sum_i log softmax_j(s(a_i, b_j) / temperature)`` at j = i; symmetric: the mean with a and b exchanged.

    Where a batch holds a row of the tower's table twice, the copy is left out of the other's negatives.
    """

    per_prefix = True
    config: InfoNCEConfig

    def __init__(self, config: InfoNCEConfig, *, context: LossContext) -> None:
        super().__init__(config, context=context)
        if config.tower not in context.schema.towers:
            raise UsageError(f"info_nce: tower = '{config.tower}' is no tower; the towers are {', '.join(context.schema.towers)}")
        self.table = context.schema.towers[config.tower].table
        self._needs = Needs(tuple(Forward(view, config.tower) for view in config.views))

    @property
    def needs(self) -> Needs:
        """The tower on both views."""
        return self._needs

    def forward(self, step: Step) -> LossResult:
        """The mean over rows."""
        first, second = (step.run(view, self.config.tower).embedding.float() for view in self.config.views)
        if first.shape != second.shape:
            raise UsageError(
                f"info_nce: views '{self.config.views[0]}' and '{self.config.views[1]}' have {first.shape[0]} and {second.shape[0]} "
                "rows: they must come from one draw"
            )
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

    def _copies(self, step: Step, size: int) -> Tensor | None:
        """bool [B, B], True where column j is row i once more."""
        rows = step.views[self.config.views[0]].batch.rows.get(self.table)
        if rows is None or rows.shape[0] != size:
            return None
        return (rows.unsqueeze(1) == torch.where(rows < 0, -2, rows)).fill_diagonal_(False)
