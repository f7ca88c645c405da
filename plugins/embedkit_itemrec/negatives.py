"""Losses that tell each target from a stream of negatives: gBCE and BPR."""

from __future__ import annotations

from abc import abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor

from embedkit.nn.gather import shards
from embedkit.training.loss import Forward, LossContext, LossResult, Step, zero
from embedkit_itemrec.configs import BprConfig, GbceConfig, NegativesConfig
from embedkit_itemrec.pairs import PairLoss


class NegativesLoss(PairLoss):
    """Base: all rows of one stream are negatives of every query of a step, but for copies of the query's own target.

    Negatives that are shared by the rows of a batch cost one product of matrices; each row's own draw would cost a gather a pair.
    """

    config: NegativesConfig

    def candidates(self) -> tuple[Forward, ...]:
        """The target tower on the view and on the negatives."""
        return Forward(self.view, self.config.target), Forward(self.config.negatives, self.config.target)

    def forward(self, step: Step) -> LossResult:
        """The weighted mean over the rows with a known target."""
        scale = 1.0 / step.value(self.config.temperature)
        queries = self.queries(step) * scale
        targets = step.run(self.view, self.config.target).embedding.float()
        others = step.run(self.config.negatives, self.config.target).embedding.float()
        rows, other_rows = self.rows(step), self.rows(step, self.config.negatives)
        batch = shards(rows.shape[0], rows.device)
        if batch.total == 0 or others.shape[0] == 0:
            return LossResult(zero(queries) + zero(targets) + zero(others))
        counts = (other_rows >= 0) & (other_rows != rows.unsqueeze(1))
        losses = self.per_row((queries * targets).sum(1), queries @ others.T, counts)
        weights = self.weights(step.views[self.view].batch, rows >= 0)
        return LossResult(batch.mean((losses * weights).sum(), weights.sum()))

    @abstractmethod
    def per_row(self, positive: Tensor, negative: Tensor, counts: Tensor) -> Tensor:
        """Scores of the targets [N] and of the negatives [N, U], and which of these count, bool [N, U] → losses [N]."""


class Gbce(NegativesLoss):
    """Generalised binary cross-entropy (Petrov and Macdonald, RecSys 2023, arXiv 2308.07192, equation 9; from memory).

    ``-1/(k+1) (b log s(p) + sum_j log(1 - s(n_j)))`` with s the sigmoid, k negatives, ``b = a (t (1 - 1/a) + 1/a)`` for the share
    ``a = k / (M - 1)`` of the items that are drawn, and t the calibration: negative sampling makes a model too sure, and the power b of
    the positive's probability takes it back.
    """

    name = "gbce"
    config: GbceConfig

    def __init__(self, config: GbceConfig, *, context: LossContext) -> None:
        super().__init__(config, context=context)
        self._items = context.rows[self.table]

    def per_row(self, positive: Tensor, negative: Tensor, counts: Tensor) -> Tensor:
        """See ``NegativesLoss.per_row``."""
        drawn = counts.sum(1).float()
        share = (drawn / max(1, self._items - 1)).clamp(max=1.0)
        t = self.config.calibration
        power = share * t + (1.0 - t)
        told = F.softplus(negative).masked_fill(~counts, 0.0).sum(1)
        return (power * F.softplus(-positive) + told) / (drawn + 1.0)


class Bpr(NegativesLoss):
    """Bayesian personalised ranking: the mean of ``-log s(p - n_j)`` over the negatives (Rendle et al., UAI 2009, section 4)."""

    name = "bpr"
    config: BprConfig

    def per_row(self, positive: Tensor, negative: Tensor, counts: Tensor) -> Tensor:
        """See ``NegativesLoss.per_row``."""
        told = F.softplus(negative - positive.unsqueeze(1)).masked_fill(~counts, 0.0).sum(1)
        return told / torch.where(counts.any(1), counts.sum(1), 1)
