"""Softmax over the whole catalogue."""

from __future__ import annotations

import torch
from torch import Tensor

from embedkit.errors import UsageError
from embedkit.nn.gather import shards
from embedkit.nn.linear_cross_entropy import linear_cross_entropy
from embedkit.training.loss import CATALOGUE, Forward, Loss, LossContext, LossResult, Needs, Step, zero
from embedkit_itemrec.configs import SoftmaxConfig


class Softmax(Loss):
    """``-log softmax_j(<q_i, x_j> / temperature)`` at row i's target, j over all rows of the target's table (Klenitskiy and Vasilev 2023,
    arXiv 2309.07602: SASRec with full cross entropy).

    Works for rows of events ([B]) and for windows ([N] positions). Rows whose target is unknown (-1), or no candidate, do not count. The
    target tower runs over its whole table once a step; logits are never held whole.
    """

    per_prefix = True
    config: SoftmaxConfig
    _bias: Tensor | None

    def __init__(self, config: SoftmaxConfig, *, context: LossContext) -> None:
        super().__init__(config, context=context)
        dims = context.tower_dims
        if dims[config.query] != dims[config.target]:
            raise UsageError(
                f"softmax: tower '{config.query}' gives {dims[config.query]} numbers and tower '{config.target}' {dims[config.target]}: "
                "give both heads one width"
            )
        self.view = config.view or context.views[0]
        self.table = context.schema.towers[config.target].table
        self.register_buffer("_bias", self._left_out(), persistent=False)
        self._needs = Needs((Forward(CATALOGUE, config.target), Forward(self.view, config.query)))

    @property
    def needs(self) -> Needs:
        """The target tower on its whole table, the query tower on the view."""
        return self._needs

    def forward(self, step: Step) -> LossResult:
        """The mean over the rows with a known target."""
        found, asked = step.run(CATALOGUE, self.config.target), step.run(self.view, self.config.query)
        items, queries = found.embedding.float(), asked.embedding.float()
        rows = step.views[self.view].batch.rows.get(self.table)
        if rows is None:
            raise UsageError(
                f"softmax: the batches of '{self.view}' do not say which row of table '{self.table}' each row belongs to: "
                f"draw from an events table that joins it"
            )
        known = rows >= 0 if self._bias is None else (rows >= 0) & (self._bias.index_select(0, rows.clamp(min=0)) == 0)
        batch = shards(rows.shape[0], rows.device)
        if batch.total == 0:
            return LossResult(zero(queries) + zero(items))
        total = linear_cross_entropy(
            queries,
            items,
            rows.clamp(min=0),
            known.to(queries.dtype),
            scale=1.0 / step.value(self.config.temperature),
            bias=self._bias,
            bounded=found.normalized and asked.normalized,
            precision=self.context.precision,
        )
        return LossResult(batch.mean(total, known.sum()))

    def _left_out(self) -> Tensor | None:
        """-inf for rows that are no candidates, float32 [M]; None where all are."""
        if self.config.candidates == "all":
            return None
        nothing = self.context.frequencies(self.table) == 0
        return torch.zeros(nothing.shape[0]).masked_fill_(nothing, -torch.inf)
