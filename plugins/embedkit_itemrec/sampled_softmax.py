"""Softmax over in-batch targets with logQ correction (Yi et al. 2019; main loss of Yao et al. 2021)."""

from __future__ import annotations

from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from embedkit.errors import DataError, UsageError
from embedkit.train.loss import Forward, Loss, LossContext, LossResult, Needs, Step, zero
from embedkit_itemrec.configs import SampledSoftmaxConfig


class SampledSoftmax(Loss):
    """For each row i with target item t(i): ``-log softmax_j(s(q_i, x_j) / temperature - log E[count of j in a batch])`` at j = t(i).

    Works for rows of events ([B]) and for windows ([N] positions of B users), whose outputs are flat either way. Candidates are the
    batch's targets, known by item row and not deduplicated; a copy of row i's positive is left out in row i only (decision 14). Rows
    whose target is unknown (-1) are neither queries nor candidates. With ``negatives`` the candidates also hold uniformly drawn items,
    and the expected count of item j is ``C p_j + U / M`` for C batch targets drawn with train frequency share p_j and U uniform ones
    of M items (mixed negative sampling, Yang et al. 2020).
    """

    per_prefix = True
    config: SampledSoftmaxConfig
    _share: Tensor

    def __init__(self, config: SampledSoftmaxConfig, *, context: LossContext) -> None:
        super().__init__(config, context=context)
        towers = context.schema.towers
        for key, name in (("query", config.query), ("target", config.target)):
            if name not in towers:
                raise UsageError(f"sampled_softmax: {key} = '{name}' is no tower; the towers are {', '.join(towers)}")
        if context.tower_dims[config.query] != context.tower_dims[config.target]:
            raise UsageError(
                f"sampled_softmax: tower '{config.query}' gives {context.tower_dims[config.query]} numbers and tower "
                f"'{config.target}' {context.tower_dims[config.target]}: give both heads one width"
            )
        self.view = config.view or context.views[0]
        self.table = towers[config.target].table
        self.register_buffer("_share", torch.empty(0), persistent=False)

    @cached_property
    def _needs(self) -> Needs:
        forwards = [Forward(self.view, self.config.query), Forward(self.view, self.config.target)]
        if self.config.negatives is not None:
            forwards.append(Forward(self.config.negatives, self.config.target))
        return Needs(tuple(forwards))

    @property
    def needs(self) -> Needs:
        """Both towers on the view, and the target tower on the negatives."""
        return self._needs

    def forward(self, step: Step) -> LossResult:
        """The mean over the rows with a known target."""
        queries = step.run(self.view, self.config.query).embedding.float()
        targets = step.run(self.view, self.config.target).embedding.float()
        rows = self._rows(step, self.view)
        known = rows >= 0
        if rows.shape[0] == 0:
            return LossResult(zero(queries) + zero(targets))
        candidates, candidate_rows, own = self._candidates(step, targets, rows)
        scale = 1.0 / step.value(self.config.temperature)
        correction = self._correction(candidate_rows, own)
        logits = torch.addmm(correction, queries, candidates.T, alpha=scale)
        position = torch.arange(rows.shape[0], device=rows.device)
        whole = rows.shape[0] <= self.config.max_candidates
        masked = (candidate_rows < 0).expand_as(logits)
        if self.config.mask_hits:
            masked = masked | (candidate_rows == rows.unsqueeze(1))
        if whole:  # the positive of row i is candidate i
            masked = masked & (own != position.unsqueeze(1))
            logits, label = logits.masked_fill(masked, -torch.inf), position
        else:  # it may not be among the candidates: put it in front, and take it out where it is
            masked = masked | (own == position.unsqueeze(1))
            positive = (queries * targets).sum(1) * scale + self._correction(rows, own)
            logits, label = torch.cat([positive.unsqueeze(1), logits.masked_fill(masked, -torch.inf)], 1), torch.zeros_like(position)
        losses = F.cross_entropy(logits, label, reduction="none")
        return LossResult((losses * known).sum() / known.sum().clamp(min=1))

    def _candidates(self, step: Step, targets: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Candidate vectors [C, E], their item rows [C], and the batch row that each is the target of (-1 for uniform ones)."""
        limit = self.config.max_candidates
        own = torch.arange(rows.shape[0], device=rows.device)
        if rows.shape[0] > limit:
            draw = torch.randperm(rows.shape[0], generator=step.random.local)[:limit].sort().values
            own = draw.to(rows.device)
            targets, rows = targets.index_select(0, own), rows.index_select(0, own)
        if self.config.negatives is not None:
            extra = step.run(self.config.negatives, self.config.target).embedding.float()
            extra_rows = self._rows(step, self.config.negatives)
            targets, rows = torch.cat([targets, extra]), torch.cat([rows, extra_rows])
            own = torch.cat([own, own.new_full((extra_rows.shape[0],), -1)])
        return targets, rows, own

    def _rows(self, step: Step, view: str) -> Tensor:
        found = step.views[view].batch.rows.get(self.table)
        if found is None:
            raise UsageError(
                f"sampled_softmax: the batches of '{view}' do not say which row of table '{self.table}' each row belongs to: "
                f"draw from '{self.table}' or from an events table that joins it"
            )
        return found

    def _correction(self, rows: Tensor, own: Tensor) -> Tensor:
        """Minus the log of how often each of ``rows`` is expected among the candidates; zeros without correction."""
        if not self.config.correct_popularity:
            return torch.zeros(rows.shape, device=rows.device)
        expected = self._shares(rows.device).index_select(0, rows.clamp(min=0)) * (own >= 0).sum()
        if self.config.negatives is not None:
            expected = expected + (own < 0).sum() / self.context.rows[self.table]
        return -expected.log()

    def _shares(self, device: torch.device) -> Tensor:
        """Share of train events that point at each item row; items without any count as one event."""
        if self._share.numel() == 0:
            counts = self.context.frequencies(self.table)
            if counts.numel() == 0:
                raise DataError(f"table '{self.table}' has no rows to recommend")
            counts = counts.clamp(min=1).double()
            self._share = (counts / counts.sum()).float().to(device)
        return self._share
