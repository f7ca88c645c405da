"""PairLoss: what losses of queries and their targets share."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from embedkit.data.batch import Batch
from embedkit.errors import UsageError
from embedkit.training.loss import Forward, Loss, LossContext, Needs, Step
from embedkit.training.weights import require_weight, row_weights
from embedkit_itemrec.configs import PairConfig


class PairLoss(Loss):
    """Base of losses that want each query near its target, a row of the target tower's table.

    Works for rows of events ([B]) and for windows ([N] positions of B users), whose outputs are flat either way; and for users that are
    asked for all of their items at once, who have N targets in all (the multinomial likelihood of Liang et al. 2018, arXiv 1802.05814).

    Args:
        config: its options.
        context: of the stage.

    Raises:
        UsageError: the towers give vectors of two widths, or ``weight_by`` names no weight.
    """

    per_prefix = True
    name: str
    """Registered name, for messages."""
    config: PairConfig

    def __init__(self, config: PairConfig, *, context: LossContext) -> None:
        super().__init__(config, context=context)
        towers, dims = context.schema.towers, context.tower_dims
        for key, name in (("query", config.query), ("target", config.target)):
            if name not in towers:
                raise UsageError(f"{self.name}: {key} = '{name}' is no tower; the towers are {', '.join(towers)}")
        if dims[config.query] != dims[config.target]:
            raise UsageError(
                f"{self.name}: tower '{config.query}' gives {dims[config.query]} numbers and tower '{config.target}' "
                f"{dims[config.target]}: give both heads one width"
            )
        require_weight(context.schema, config.weight_by, where=f"{self.name}: weight_by")
        self.view = config.view or context.views[0]
        self.table = towers[config.target].table

    @cached_property
    def _needs(self) -> Needs:
        labels = () if self.config.weight_by is None else (self.config.weight_by,)
        return Needs((Forward(self.view, self.config.query), *self.candidates()), labels)

    @property
    def needs(self) -> Needs:
        """The query tower on the view, and what the candidates need."""
        return self._needs

    def candidates(self) -> tuple[Forward, ...]:
        """The forwards that give the targets and what they are told from."""
        return (Forward(self.view, self.config.target),)

    def rows(self, step: Step, view: str | None = None) -> Tensor:
        """The item row of each target, int64 [N]; -1 where there is none: those do not count.

        Where a window is asked for its own items (``rows = "sequences"`` or ``"users"``), only the hidden ones are targets: the others
        are seen.

        Raises:
            UsageError: the batches do not name rows of the target's table, or a window of own items hides none.
        """
        name = view or self.view
        seen = step.views[name]
        rows = seen.batch.rows.get(self.table)
        if rows is None:
            raise UsageError(
                f"{self.name}: the batches of '{name}' do not say which row of table '{self.table}' each row belongs to: "
                f"draw from '{self.table}' or from an events table that joins it"
            )
        if seen.batch.window is None or seen.batch.asks == "next":
            return rows
        hidden = seen.hidden_values.get(seen.batch.window)
        if hidden is None:
            raise UsageError(
                f"{self.name}: view '{name}' asks for the items of '{seen.batch.window}' and shows them all: hide some by the augmentation "
                f"{'item_masking' if seen.batch.asks == 'own' else 'value_dropout'} and name its view, or use rows = 'windows'"
            )
        return rows.masked_fill(~hidden, -1)

    def asking(self, step: Step) -> Tensor | None:
        """The query row that asks for each target, int64 [N], where a row asks for several; None where each asks for its own."""
        batch = step.views[self.view].batch
        if batch.window is None or batch.asks != "all":
            return None
        lengths = batch.columns[batch.window].lengths()
        rows = torch.arange(len(lengths), device=lengths.device)
        return torch.repeat_interleave(rows, lengths, output_size=batch.columns[batch.window].values.shape[0])

    def queries(self, step: Step) -> Tensor:
        """The query vector of each target, float32 [N, E]."""
        found, asking = step.run(self.view, self.config.query).embedding.float(), self.asking(step)
        return found if asking is None else found.index_select(0, asking)

    def weights(self, batch: Batch, known: Tensor) -> Tensor:
        """What each target counts, float32 [N]."""
        return row_weights(batch, self.config.weight_by, known)
