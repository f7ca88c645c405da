"""Softmax over the whole catalogue."""

from __future__ import annotations

import torch
from torch import Tensor

from embedkit.nn.gather import shards
from embedkit.nn.linear_cross_entropy import linear_cross_entropy
from embedkit.training.loss import CATALOGUE, Forward, LossContext, LossResult, Step, zero
from embedkit_itemrec.configs import SoftmaxConfig
from embedkit_itemrec.pairs import PairLoss


class Softmax(PairLoss):
    """``-log softmax_j(<q_i, x_j> / temperature)`` at row i's target, j over all rows of the target's table (Klenitskiy and Vasilev 2023,
    arXiv 2309.07602: SASRec with full cross entropy).

    Rows whose target is unknown (-1), or no candidate, do not count. A row with several targets costs one row of logits. The target tower
    runs over its whole table once a step; logits are never held whole.
    """

    name = "softmax"
    config: SoftmaxConfig
    _bias: Tensor | None

    def __init__(self, config: SoftmaxConfig, *, context: LossContext) -> None:
        super().__init__(config, context=context)
        self.register_buffer("_bias", self._left_out(), persistent=False)

    def candidates(self) -> tuple[Forward, ...]:
        """The target tower on its whole table."""
        return (Forward(CATALOGUE, self.config.target),)

    def forward(self, step: Step) -> LossResult:
        """The weighted mean over the rows with a known target."""
        found, asked = step.run(CATALOGUE, self.config.target), step.run(self.view, self.config.query)
        items, queries = found.embedding.float(), asked.embedding.float()
        rows = self.rows(step)
        batch = shards(rows.shape[0], rows.device)
        if batch.total == 0:
            return LossResult(zero(queries) + zero(items))
        labels = rows.clamp(min=0)
        known = rows >= 0 if self._bias is None else (rows >= 0) & (self._bias.index_select(0, labels) == 0)
        weights = self.weights(step.views[self.view].batch, known)
        total = linear_cross_entropy(
            queries,
            items,
            labels,
            weights,
            rows=self.asking(step),
            scale=1.0 / step.value(self.config.temperature),
            bias=self._bias,
            bounded=found.normalized and asked.normalized,
            precision=self.context.precision,
        )
        return LossResult(batch.mean(total, weights.sum()))

    def _left_out(self) -> Tensor | None:
        """-inf for rows that are no candidates, float32 [M]; None where all are."""
        if self.config.candidates == "all":
            return None
        nothing = self.context.frequencies(self.table) == 0
        return torch.zeros(nothing.shape[0]).masked_fill_(nothing, -torch.inf)
