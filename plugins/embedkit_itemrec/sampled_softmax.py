"""Softmax over in-batch targets with logQ correction (Yi et al. 2019; main loss of Yao et al. 2021)."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from embedkit.errors import DataError
from embedkit.nn.gather import shards
from embedkit.nn.sampled_cross_entropy import sampled_cross_entropy
from embedkit.training.loss import Forward, LossContext, LossResult, Step, zero
from embedkit_itemrec.configs import SampledSoftmaxConfig
from embedkit_itemrec.pairs import PairLoss

_OUT = -1e9


class SampledSoftmax(PairLoss):
    """For each row i with target item t(i): ``-log softmax_j(s(q_i, x_j) / temperature - log E[count of j among the candidates])`` at
    j = t(i).

    Candidates are the batch's targets, known by item row and not deduplicated; a copy of row i's positive is left out in row i only
    (decision 14). Rows whose target is unknown (-1) are neither queries nor candidates. With ``negatives`` the candidates also hold items
    of that stream, and the expected count of item j is ``C p_j + U u_j`` for C batch targets drawn with train frequency share p_j and U
    items that the stream's sampler draws with chance u_j (mixed negative sampling, Yang et al. 2020). With ``weight_by`` rows count by
    their weights; a row of weight 0 is no query, while its target stays a candidate as often as it is drawn.
    """

    name = "sampled_softmax"
    config: SampledSoftmaxConfig
    _share: Tensor

    def __init__(self, config: SampledSoftmaxConfig, *, context: LossContext) -> None:
        super().__init__(config, context=context)
        self.register_buffer("_share", torch.empty(0), persistent=False)

    def candidates(self) -> tuple[Forward, ...]:
        """The target tower on the view and on the negatives."""
        views = [self.view] if self.config.negatives is None else [self.view, self.config.negatives]
        return tuple(Forward(view, self.config.target) for view in views)

    def forward(self, step: Step) -> LossResult:
        """The weighted mean over the rows with a known target. Rows of all processes are candidates (decision 16)."""
        queries = self.queries(step)
        found = step.run(self.view, self.config.target)
        targets, rows = found.embedding.float(), self.rows(step)
        batch = shards(rows.shape[0], rows.device)
        if batch.total == 0:
            return LossResult(zero(queries) + zero(targets))
        scale = 1.0 / step.value(self.config.temperature)
        candidates, candidate_rows = batch.gather(targets), batch.gather(rows)
        places = torch.arange(batch.total, device=rows.device)
        drawn = self._draw(step, batch.total)
        if drawn is not None:
            places = drawn.to(rows.device)
            candidates, candidate_rows = candidates.index_select(0, places), candidate_rows.index_select(0, places)
        counts = (candidates.shape[0], 0)
        if self.config.negatives is not None:
            extra = step.run(self.config.negatives, self.config.target).embedding.float()
            extra_rows = self.rows(step, self.config.negatives)
            more = shards(extra.shape[0], rows.device)
            candidates = torch.cat([candidates, more.gather(extra)])
            candidate_rows = torch.cat([candidate_rows, more.gather(extra_rows)])
            counts = (counts[0], more.total)
            places = torch.cat([places, places.new_full((more.total,), -1)])
        weights = self.weights(step.views[self.view].batch, rows >= 0)
        total = sampled_cross_entropy(
            queries,
            (queries * targets).sum(1) * scale + self._correction(rows, counts),
            candidates,
            weights,
            left_out=(rows, candidate_rows) if self.config.mask_hits else (batch.own(rows.device), places),
            scale=scale,
            bias=self._correction(candidate_rows, counts),
            bounded=found.normalized and step.run(self.view, self.config.query).normalized,
            precision=self.context.precision,
        )
        return LossResult(batch.mean(total, weights.sum()))

    def _draw(self, step: Step, total: int) -> Tensor | None:
        """Which targets of the whole batch are candidates when there are too many: int64 [max_candidates], ascending. None: all.

        Every process draws the same ones.
        """
        if not self.config.in_batch:
            return torch.empty(0, dtype=torch.int64)
        limit = self.config.max_candidates
        if total <= limit:
            return None
        return torch.randperm(total, generator=step.random.shared)[:limit].sort().values

    def _correction(self, rows: Tensor, counts: tuple[int, int]) -> Tensor:
        """What is added to the logits of candidates of these rows, [C].

        Minus the log of how often each is expected among ``counts`` batch targets and negatives (zeros without correction), and a
        number that leaves unknown rows out: finite, so that a batch without any known row has no NaN.
        """
        if self.config.correct_popularity:
            expected = self._shares(rows.device).index_select(0, rows.clamp(min=0)) * counts[0]
            if counts[1]:
                expected = expected + counts[1] * self._chance(rows)
            found = -expected.clamp(min=torch.finfo(torch.float32).tiny).log()
        else:
            found = torch.zeros(rows.shape, device=rows.device)
        return found.masked_fill_(rows < 0, _OUT)

    def _chance(self, rows: Tensor) -> Tensor | float:
        """The chance of each of these rows in one draw of the negatives."""
        chances = self._chances
        return 1.0 / self.context.rows[self.table] if chances is None else chances.to(rows.device).index_select(0, rows.clamp(min=0))

    @cached_property
    def _chances(self) -> Tensor | None:
        """The chance of each item row in one draw of the negatives, [M]; None where all have one chance."""
        assert self.config.negatives is not None
        return self.context.chances(self.config.negatives)

    def _shares(self, device: torch.device) -> Tensor:
        """Share of train events that point at each item row; items without any count as one event."""
        if self._share.numel() == 0:
            counts = self.context.frequencies(self.table)
            if counts.numel() == 0:
                raise DataError(f"table '{self.table}' has no rows to recommend")
            counts = counts.clamp(min=1).double()
            self._share = (counts / counts.sum()).float().to(device)
        return self._share
