"""Softmax over in-batch targets with logQ correction (Yi et al. 2019; main loss of Yao et al. 2021)."""

from __future__ import annotations

from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from embedkit.errors import DataError, UsageError
from embedkit.training.loss import Forward, Loss, LossContext, LossResult, Needs, Step, zero
from embedkit.training.weights import require_weight, row_weights, weighted_mean
from embedkit_itemrec.configs import SampledSoftmaxConfig

_OUT = -1e9


class SampledSoftmax(Loss):
    """For each row i with target item t(i): ``-log softmax_j(s(q_i, x_j) / temperature - log E[count of j in a batch])`` at j = t(i).

    Works for rows of events ([B]) and for windows ([N] positions of B users), whose outputs are flat either way. Candidates are the
    batch's targets, known by item row and not deduplicated; a copy of row i's positive is left out in row i only (decision 14). Rows
    whose target is unknown (-1) are neither queries nor candidates. With ``negatives`` the candidates also hold uniformly drawn items,
    and the expected count of item j is ``C p_j + U / M`` for C batch targets drawn with train frequency share p_j and U uniform ones
    of M items (mixed negative sampling, Yang et al. 2020). With ``weight_by`` rows count by their weights; a row of weight 0 is no query,
    while its target stays a candidate as often as it is drawn.
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
        require_weight(context.schema, config.weight_by, where="sampled_softmax: weight_by")
        self.view = config.view or context.views[0]
        self.table = towers[config.target].table
        self.register_buffer("_share", torch.empty(0), persistent=False)

    @cached_property
    def _needs(self) -> Needs:
        forwards = [Forward(self.view, self.config.query), Forward(self.view, self.config.target)]
        if self.config.negatives is not None:
            forwards.append(Forward(self.config.negatives, self.config.target))
        return Needs(tuple(forwards), () if self.config.weight_by is None else (self.config.weight_by,))

    @property
    def needs(self) -> Needs:
        """Both towers on the view, and the target tower on the negatives."""
        return self._needs

    def forward(self, step: Step) -> LossResult:
        """The weighted mean over the rows with a known target."""
        queries = step.run(self.view, self.config.query).embedding.float()
        targets = step.run(self.view, self.config.target).embedding.float()
        rows = self._rows(step, self.view)
        if rows.shape[0] == 0:
            return LossResult(zero(queries) + zero(targets))
        scale = 1.0 / step.value(self.config.temperature)
        drawn = self._draw(step, rows)
        candidates, candidate_rows = (targets, rows) if drawn is None else (targets.index_select(0, drawn), rows.index_select(0, drawn))
        counts = (candidates.shape[0], 0)
        if self.config.negatives is not None:
            extra = step.run(self.config.negatives, self.config.target).embedding.float()
            extra_rows = self._rows(step, self.config.negatives)
            candidates, candidate_rows = torch.cat([candidates, extra]), torch.cat([candidate_rows, extra_rows])
            counts = (counts[0], extra.shape[0])
        logits = torch.addmm(self._correction(candidate_rows, counts), queries, candidates.T, alpha=scale)
        if drawn is None:  # the positive of row i is candidate i
            label = torch.arange(rows.shape[0], device=rows.device)
            if self.config.mask_hits:
                logits.masked_fill_((candidate_rows == rows.unsqueeze(1)).fill_diagonal_(False), -torch.inf)
        else:  # it may not be among the candidates: put it in front, and take it out where it is
            label = torch.zeros_like(rows)
            if self.config.mask_hits:
                masked = candidate_rows == rows.unsqueeze(1)
            else:
                own = F.pad(drawn, (0, counts[1]), value=-1)
                masked = own == torch.arange(rows.shape[0], device=rows.device).unsqueeze(1)
            positive = (queries * targets).sum(1) * scale + self._correction(rows, counts)
            logits = torch.cat([positive.unsqueeze(1), logits.masked_fill_(masked, -torch.inf)], 1)
        losses = F.cross_entropy(logits, label, reduction="none")
        return LossResult(weighted_mean(losses, row_weights(step.views[self.view].batch, self.config.weight_by, rows >= 0)))

    def _draw(self, step: Step, rows: Tensor) -> Tensor | None:
        """Which batch targets are candidates when there are too many: int64 [max_candidates], ascending. None: all."""
        limit = self.config.max_candidates
        if rows.shape[0] <= limit:
            return None
        return torch.randperm(rows.shape[0], generator=step.random.local)[:limit].sort().values.to(rows.device)

    def _rows(self, step: Step, view: str) -> Tensor:
        found = step.views[view].batch.rows.get(self.table)
        if found is None:
            raise UsageError(
                f"sampled_softmax: the batches of '{view}' do not say which row of table '{self.table}' each row belongs to: "
                f"draw from '{self.table}' or from an events table that joins it"
            )
        return found

    def _correction(self, rows: Tensor, counts: tuple[int, int]) -> Tensor:
        """What is added to the logits of candidates of these rows, [C].

        Minus the log of how often each is expected among ``counts`` batch targets and uniform rows (zeros without correction), and a
        number that leaves unknown rows out: finite, so that a batch without any known row has no NaN.
        """
        if self.config.correct_popularity:
            expected = self._shares(rows.device).index_select(0, rows.clamp(min=0)) * counts[0]
            if counts[1]:
                expected = expected + counts[1] / self.context.rows[self.table]
            found = -expected.log()
        else:
            found = torch.zeros(rows.shape, device=rows.device)
        return found.masked_fill_(rows < 0, _OUT)

    def _shares(self, device: torch.device) -> Tensor:
        """Share of train events that point at each item row; items without any count as one event."""
        if self._share.numel() == 0:
            counts = self.context.frequencies(self.table)
            if counts.numel() == 0:
                raise DataError(f"table '{self.table}' has no rows to recommend")
            counts = counts.clamp(min=1).double()
            self._share = (counts / counts.sum()).float().to(device)
        return self._share
