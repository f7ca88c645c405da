"""Spread-out regularisation: push the rows of a batch apart, without a second view (Zhang et al. 2017; an arm of Yao et al. 2021)."""

from __future__ import annotations

import torch
from torch import Tensor

from embedkit.nn.gather import shards
from embedkit.training.loss import Forward, Loss, LossContext, LossResult, Needs, Step, zero
from embedkit_contrastive.checks import require_tower, table_rows
from embedkit_contrastive.configs_spread_out import SpreadOutConfig


class SpreadOut(Loss):
    """Over the similarities s_ij of the n pairs of different rows in a batch.

    ``log_sum_exp``: ``1/B sum_i log(1 + sum_j exp((s_ij - s_ii) / temperature))``, the contrastive loss of Yao et al. (2021) with both
    views left as they are, which is how that paper's spread-out arm is described (from memory).

    ``moments``: ``m1^2 + max(0, m2 - 1/E)`` with m1 and m2 the means of s_ij and of its square: the first two moments of similarities
    brought to those of independent directions in E dimensions (global orthogonal regularisation, Zhang et al. 2017, equation 4; from
    memory).

    Rows that stand twice in a batch are no pair. With several processes each gathers the rows of all and computes the whole batch's value.
    """

    per_prefix = True
    config: SpreadOutConfig

    def __init__(self, config: SpreadOutConfig, *, context: LossContext) -> None:
        super().__init__(config, context=context)
        require_tower("spread_out", config.tower, context)
        self.table = context.schema.towers[config.tower].table
        self._needs = Needs((Forward(config.view, config.tower),))

    @property
    def needs(self) -> Needs:
        """The tower on the view."""
        return self._needs

    def forward(self, step: Step) -> LossResult:
        """The mean over rows, or over pairs; zero where there is no pair."""
        vectors = step.run(self.config.view, self.config.tower).embedding.float()
        rows = table_rows(step, self.config.view, self.table, vectors.shape[0])
        batch = shards(vectors.shape[0], vectors.device)
        vectors = batch.gather(vectors)
        pairs = _pairs(vectors, None if rows is None else batch.gather(rows))
        if not bool(pairs.any()):
            return LossResult(zero(vectors))
        similar = vectors @ vectors.T
        if self.config.form == "log_sum_exp":
            own = similar.diagonal().unsqueeze(1)
            logits = ((similar - own) / step.value(self.config.temperature)).masked_fill(~pairs, -torch.inf)
            return LossResult(torch.logaddexp(logits.logsumexp(1), logits.new_zeros(())).mean())
        count = pairs.sum()
        first = (similar * pairs).sum() / count
        second = (similar.square() * pairs).sum() / count
        return LossResult(first.square() + (second - 1.0 / vectors.shape[1]).clamp(min=0))


def _pairs(vectors: Tensor, rows: Tensor | None) -> Tensor:
    """bool [B, B], True for two different rows."""
    different = ~torch.eye(vectors.shape[0], dtype=torch.bool, device=vectors.device)
    return different if rows is None else different & (rows.unsqueeze(1) != torch.where(rows < 0, -2, rows))
