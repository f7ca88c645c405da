"""Views that hide single cells of rows: disjoint contexts and targets for joint-embedding prediction, and cells at random."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Generator, Tensor

from embedkit.errors import UsageError
from embedkit.views import Augmentation, AugmentationContext, Random, View
from embedkit_tabular.configs_ssl import CellMaskingConfig, CellsConfig, JepaMasksConfig

TARGET = "target:"
"""``View.params`` holds the targets of field f as ``TARGET + f``, bool [B, K]."""


class Cells(Augmentation):
    """Base: which fields are dealt with, and one view."""

    called: ClassVar[str]
    """The registered name, for messages."""
    config: CellsConfig

    def __init__(self, config: CellsConfig, *, context: AugmentationContext) -> None:
        super().__init__(config, context=context)
        self.fields = cell_fields(config, context)
        if context.makes != 1:
            raise UsageError(f"{self.called} makes one view, but {context.makes} are named in 'makes'")

    def rows(self, view: View) -> int:
        """Rows of the batch."""
        return len(view.batch.columns[self.fields[0]])


class JepaMasks(Cells):
    """A view that shows some fields of each row and drops the others, with K targets among those that are dropped.

    The number of fields in the context and in a target is drawn once a batch, uniformly between the shares, so that rows stack; which
    fields they are, for each row [Thimonier et al. 2025, arXiv 2410.05016, and its code]. Targets never hold a field of the context; they
    may overlap each other. Fields that are not dealt with stay visible.
    """

    called = "jepa_masks"
    config: JepaMasksConfig

    def __init__(self, config: JepaMasksConfig, *, context: AugmentationContext) -> None:
        super().__init__(config, context=context)
        if len(self.fields) < 2:
            raise UsageError(
                f"jepa_masks wants at least two fields, one to see and one to predict; table '{context.table}' gives it "
                f"{', '.join(self.fields) or 'none'}: add fields to a tower, or name them in 'fields'"
            )

    def __call__(self, view: View, random: Random) -> Sequence[View]:
        """The context, with a bool [B, K] a field in ``params`` (see ``TARGET``)."""
        total = len(self.fields)
        shown = _count(self.config.context, total, random.shared, most=total - 1)
        wanted = _count(self.config.target, total, random.shared, most=total - shown)
        rows, by_row = self.rows(view), self.config.positions == "row"
        context, targets = _deal(
            rows if by_row else 1, total, shown, wanted, self.config.targets, random.local if by_row else random.shared
        )
        device = view.batch.columns[self.fields[0]].values.device
        hidden = (~context).expand(rows, -1).T.contiguous().to(device)
        chosen = targets.expand(rows, -1, -1).permute(2, 0, 1).contiguous().to(device)
        params = {TARGET + name: mask for name, mask in zip(self.fields, chosen, strict=True)}
        return [replace(_hide(view, self.fields, hidden), fill="drop", params={**view.params, **params})]


class CellMasking(Cells):
    """A view in which each cell is hidden with one probability, its token replaced by the field's learned one."""

    called = "cell_masking"
    config: CellMaskingConfig

    def __call__(self, view: View, random: Random) -> Sequence[View]:
        """The view; masks are drawn for each row."""
        coins = torch.rand(len(self.fields), self.rows(view), generator=random.local) < self.config.share
        return [replace(_hide(view, self.fields, coins.to(view.batch.columns[self.fields[0]].values.device)), fill="replace")]


def cell_fields(config: CellsConfig, context: AugmentationContext) -> list[str]:
    """The fields that a masking deals with, at least one.

    Raises:
        UsageError: one of them is not in the stream's batches, or there is none.
    """
    fields = context.schema.fields
    if config.fields is not None:
        wanted = list(config.fields)
    elif config.tower is not None:
        wanted = [name for name in context.schema.towers[config.tower].fields if fields[name].role != "key"]
    else:
        wanted = [name for name in context.fields if fields[name].table == context.table and fields[name].role == "feature"]
    for name in wanted:
        if name not in context.fields:
            raise UsageError(
                f"field '{name}' is not in the batches of table '{context.table}', which hold {', '.join(context.fields)}: "
                "no tower that a loss asks of this stream reads it"
            )
    if not wanted:
        raise UsageError(f"table '{context.table}' has no feature whose cells could be hidden: add fields to a tower")
    return wanted


def _count(shares: tuple[float, float], total: int, shared: Generator, *, most: int) -> int:
    """A number of fields between two shares of them, at least 1 and at most ``most``."""
    low = max(1, math.ceil(shares[0] * total - 1e-9))
    high = max(low, math.floor(shares[1] * total + 1e-9))
    return min(most, int(torch.randint(low, high + 1, (), generator=shared)))


def _deal(rows: int, total: int, shown: int, wanted: int, targets: int, draw: Generator) -> tuple[Tensor, Tensor]:
    """Which fields are in the context, bool [rows, F], and in each target, bool [rows, K, F]. Drawn on the CPU."""
    order = torch.rand(rows, total, generator=draw).argsort(1)
    context = torch.zeros(rows, total, dtype=torch.bool).scatter(1, order[:, :shown], True)
    lots = torch.rand(rows, targets, total, generator=draw).masked_fill(context.unsqueeze(1), -1.0)
    chosen = lots.topk(wanted, dim=2).indices
    return context, torch.zeros(rows, targets, total, dtype=torch.bool).scatter(2, chosen, True)


def _hide(view: View, fields: Sequence[str], masks: Tensor) -> View:
    """The view with bool [F, B] of these fields hidden too."""
    hidden = dict(view.hidden)
    for name, mask in zip(fields, masks, strict=True):
        hidden[name] = hidden[name] | mask if name in hidden else mask
    return replace(view, hidden=hidden)
