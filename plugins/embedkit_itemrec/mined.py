"""Softmax against hard negatives, mined with an index of the model's own vectors."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from embedkit.errors import UsageError
from embedkit.index.base import Index
from embedkit.nn.gather import shards, world
from embedkit.training.loss import Forward, LossContext, LossResult, Step, zero
from embedkit_itemrec.configs import MinedSoftmaxConfig
from embedkit_itemrec.pairs import PairLoss


class MinedSoftmax(PairLoss):
    """``-log softmax`` of each target among hard negatives and, where a stream gives them, random ones.

    Every so many steps all items are embedded and indexed (ANCE, Xiong et al. 2021, arXiv 2007.00808; here in the train loop). Each query
    then draws some of its nearest items; what all queries of the batch drew are candidates for all of them, embedded anew with gradient.
    A mined item does not count against a query that it is nearer to than ``guard`` times its target is (positive-aware mining, de Souza
    P. Moreira et al. 2024, arXiv 2407.15831), nor against one whose target it is. Nothing is corrected for how likely a candidate is drawn:
    the point of mining is to see some of them more often.
    """

    name = "mined_softmax"
    config: MinedSoftmaxConfig
    _vectors: Tensor
    _steps: Tensor

    def __init__(self, config: MinedSoftmaxConfig, *, context: LossContext) -> None:
        super().__init__(config, context=context)
        # The vectors themselves are in the checkpoint, so that a resumed run mines with the very index of the run before.
        self.register_buffer("_vectors", torch.zeros(context.rows[self.table], context.tower_dims[config.target]))
        self.register_buffer("_steps", torch.zeros((), dtype=torch.int64))
        self._index: Index | None = None

    def candidates(self) -> tuple[Forward, ...]:
        """The target tower on the view and on the random negatives."""
        views = [self.view] if self.config.negatives is None else [self.view, self.config.negatives]
        return tuple(Forward(view, self.config.target) for view in views)

    def forward(self, step: Step) -> LossResult:
        """The weighted mean over the rows with a known target; a zero before the first mining without other negatives.

        Raises:
            UsageError: several processes train; each would mine from its own queries alone.
        """
        if world() > 1:
            raise UsageError("mined_softmax does not run on several processes: use sampled_softmax, or one process")
        queries = self.queries(step)
        targets = step.run(self.view, self.config.target).embedding.float()
        rows = self.rows(step)
        scale = 1.0 / step.value(self.config.temperature)
        positive = (queries * targets).sum(1)
        logits = [positive.unsqueeze(1) * scale]
        mined = self._mine(queries.detach(), rows, step)
        if len(mined):
            hard = queries @ step.rows(self.config.target, mined).embedding.float().T
            wrong = (mined != rows.unsqueeze(1)) & (hard.detach() < self.config.guard * positive.detach().unsqueeze(1))
            logits.append((hard * scale).masked_fill(~wrong, -torch.inf))
        if self.config.negatives is not None:
            others = step.run(self.config.negatives, self.config.target).embedding.float()
            other_rows = self.rows(step, self.config.negatives)
            wrong = (other_rows >= 0) & (other_rows != rows.unsqueeze(1))
            logits.append((queries @ others.T * scale).masked_fill(~wrong, -torch.inf))
        if rows.shape[0] == 0:
            return LossResult(zero(queries) + zero(targets))
        joined = torch.cat(logits, 1)
        losses = torch.logsumexp(joined, 1) - joined[:, 0]
        weights = self.weights(step.views[self.view].batch, rows >= 0)
        batch = shards(rows.shape[0], rows.device)
        return LossResult(batch.mean((losses * weights).sum(), weights.sum()), {"mined": torch.tensor(float(len(mined)))})

    def after_update(self, step: Step, kept: Mapping[str, Tensor]) -> None:
        """Mine anew when it is time."""
        self._steps += 1
        if int(self._steps) % self.config.every == 0:
            self._vectors.copy_(step.snapshot(self.config.target))
            self._index = None

    def _mine(self, queries: Tensor, rows: Tensor, step: Step) -> Tensor:
        """Distinct item rows that some query drew from its nearest ones, int64 [R], ascending; none before the first mining."""
        asked = queries.index_select(0, (rows >= 0).nonzero().squeeze(1))
        if int(self._steps) < self.config.every or not len(asked):
            return rows.new_zeros(0)
        if self._index is None:
            self._index = self._build()
        wanted = min(self.config.skip + self.config.depth, self._index.rows)
        found = torch.from_numpy(self._index.search(asked.cpu().numpy(), wanted)[0])[:, self.config.skip :]
        if found.shape[1] == 0:
            return rows.new_zeros(0)
        draw = torch.rand(found.shape, generator=step.random.local).argsort(1)[:, : self.config.each]
        return found.gather(1, draw).unique().to(rows.device)

    def _build(self) -> Index:
        assert self.context.index is not None
        vectors = self._vectors.cpu().numpy()
        index = self.context.index(vectors.shape[1], "cosine" if self.context.normalized.get(self.config.target, True) else "dot")
        index.build([vectors], len(vectors))
        return index
