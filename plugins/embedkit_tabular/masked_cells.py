"""MaskedCells: tell the hidden cells of a row from the visible ones, as masked language models tell words."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from embedkit.data.columns import Column
from embedkit.errors import UsageError
from embedkit.nn.named import Named
from embedkit.nn.pooling import slots
from embedkit.training.loss import Forward, Loss, LossContext, LossResult, Needs, Step, zero
from embedkit.views import View
from embedkit_tabular.configs_ssl import MaskedCellsConfig


class MaskedCells(Loss):
    """Cross-entropy over the vocabulary for categories, an error of standardised values for numbers, from the tokens of hidden cells.

    Only cells that are hidden and not missing count: the mean over the cells of a field, then over the fields that have any (VIME, Yoon
    et al. 2020, and TabTransformer's masked pre-training, Huang et al. 2020; from memory). Values that training saw too rarely for a code
    of their own count as the unknown value.
    """

    config: MaskedCellsConfig

    def __init__(self, config: MaskedCellsConfig, *, context: LossContext) -> None:
        super().__init__(config, context=context)
        self._needs = Needs((Forward(config.view, config.tower, tokens=True),))
        self.heads: Named[nn.Linear] = Named()
        numbers = []
        for name in self._told(context):
            stats = context.codecs[name].stats
            if stats.size is None and stats.width == 1:
                numbers.append(name)
            else:
                self.heads[name] = nn.Linear(context.token_dim, stats.size or stats.width)
        self._numbers = numbers
        self.weight = nn.Parameter(torch.zeros(len(numbers), context.token_dim)) if numbers else None
        self.bias = nn.Parameter(torch.zeros(len(numbers))) if numbers else None

    @property
    def needs(self) -> Needs:
        """The tower on the view."""
        return self._needs

    @property
    def watch(self) -> tuple[Forward, ...]:
        """The tower on the view: it learns without labels."""
        return self._needs.forwards

    def forward(self, step: Step) -> LossResult:
        """The mean over fields, with the means over categories and over numbers as parts.

        Raises:
            UsageError: the view hides nothing, or drops what it hides.
        """
        view = step.views[self.config.view]
        tokens = step.run(self.config.view, self.config.tower).tokens
        self._check(view)
        names = [name for name in (*self._numbers, *self.heads) if name in view.hidden]
        if not names or tokens.x.shape[0] == 0:
            return LossResult(zero(tokens.x))
        x = dict(zip(names, slots(tokens, names).float().unbind(1), strict=True))
        errors, counts = self._of_numbers(view, x)
        parts = {"numbers": _mean(errors, counts).detach()} if len(errors) else {}
        others = [self._of_field(name, view, x[name]) for name in self.heads if name in x]
        if others:
            parts["others"] = _mean(torch.stack([e for e, _ in others]), torch.stack([n for _, n in others])).detach()
            errors = torch.cat([errors, torch.stack([e for e, _ in others])])
            counts = torch.cat([counts, torch.stack([n for _, n in others])])
        return LossResult(_mean(errors, counts), parts)

    def _told(self, context: LossContext) -> list[str]:
        """The fields that are told: of one value a row, a code or numbers."""
        tower = context.schema.towers[self.config.tower].fields
        able = [name for name in tower if _tellable(name, context)]
        plain = [name for name in able if context.schema.fields[name].role != "key"]
        for name in self.config.fields or ():
            if name not in able:
                raise UsageError(
                    f"masked_cells: field '{name}' cannot be told: it is no category or number of tower '{self.config.tower}'; "
                    f"there are {', '.join(able) or 'none'}"
                )
        found = plain if self.config.fields is None else list(self.config.fields)
        if not found:
            raise UsageError(f"masked_cells: tower '{self.config.tower}' has no category or number whose cells could be told")
        return found

    def _check(self, view: View) -> None:
        if not view.hidden:
            raise UsageError(f"masked_cells: view '{self.config.view}' hides nothing: make it with the augmentation cell_masking")
        if view.fill == "drop":
            raise UsageError(
                f"masked_cells: view '{self.config.view}' drops what it hides, so there is no token to tell a cell from: "
                "use an augmentation that replaces, such as cell_masking"
            )

    def _of_numbers(self, view: View, x: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Mean error and number of cells of each field of one number a row, all at once: there may be hundreds."""
        names = [name for name in self._numbers if name in x]
        if not names:
            nothing = next(iter(x.values())).new_zeros(0)
            return nothing, nothing
        assert self.weight is not None
        assert self.bias is not None
        place = torch.tensor([self._numbers.index(name) for name in names], device=self.weight.device)
        weight, bias = self.weight.index_select(0, place), self.bias.index_select(0, place)
        found = (torch.stack([x[name] for name in names], 1) * weight).sum(2) + bias
        columns = [view.batch.columns[name] for name in names]
        cells = torch.stack([_cells(c, view.hidden[name]) for c, name in zip(columns, names, strict=True)], 1)
        values = torch.stack([c.values.flatten() for c in columns], 1).float().masked_fill(~cells, 0.0)
        error = self._error(found, values).masked_fill(~cells, 0.0)
        count = cells.sum(0).float()
        return error.sum(0) / count.clamp(min=1), count

    def _of_field(self, name: str, view: View, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean error and number of cells of one field."""
        column = view.batch.columns[name]
        chosen = _cells(column, view.hidden[name]).nonzero().squeeze(1)
        count = torch.tensor(float(chosen.shape[0]), device=x.device)
        if chosen.shape[0] == 0:
            return zero(x), count
        found, values = self.heads[name](x.index_select(0, chosen)), column.values.index_select(0, chosen)
        if values.is_floating_point():
            return self._error(found, values.float().view_as(found)).mean(), count
        return F.cross_entropy(found, values), count

    def _error(self, found: Tensor, values: Tensor) -> Tensor:
        error = F.mse_loss if self.config.error == "mse" else F.smooth_l1_loss
        return error(found, values, reduction="none")


def _tellable(name: str, context: LossContext) -> bool:
    """Whether a field holds one code or some numbers a row, not a list."""
    codec = context.codecs.get(name)
    return codec is not None and codec.stats.max_length is None


def _cells(column: Column, hidden: Tensor) -> Tensor:
    """bool [B]: hidden, and not missing."""
    return hidden if column.present is None else hidden & column.present


def _mean(errors: Tensor, counts: Tensor) -> Tensor:
    """The mean over fields that have cells; zero where none has."""
    some = (counts > 0).float()
    return (errors * some).sum() / some.sum().clamp(min=1)
