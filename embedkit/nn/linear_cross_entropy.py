"""Cross entropy of queries against all rows of a table, without ever holding queries x rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor

_BLOCK = 65_536
"""Items scored at a time. A table with more is gone through twice: once for the sums, once for the gradients."""
_BUDGET = {"cpu": 12 * 2**20, "cuda": 256 * 2**20}
"""Bytes of logits that are held at a time: on a CPU about what stays in its cache, which halves the time."""
_SAFE = 40.0
"""Logits of at most this size need no maximum taken off: the exponential of twice as much is still a float32, and not zero."""


def linear_cross_entropy(
    queries: Tensor,
    items: Tensor,
    labels: Tensor,
    weights: Tensor,
    *,
    rows: Tensor | None = None,
    scale: float = 1.0,
    bias: Tensor | None = None,
    bounded: bool = False,
    precision: torch.dtype = torch.float32,
) -> Tensor:
    """``sum_n w_n (log sum_j exp(s_r(n),j) - s_r(n),label(n))`` with ``s_ij = scale <q_i, x_j> + bias_j``, for labels n of queries r(n).

    Logits are made a piece at a time and turned into gradients at once, so neither the forward nor the backward holds [N, M]; a table of
    at most 65,536 items takes three products, as many as the plain formula, a larger one five.

    Args:
        queries: float32 [R, E].
        items: float32 [M, E].
        labels: int64 [N], the item of each label; any of them where the weight is zero.
        weights: float32 [N], what each label counts; no gradient.
        rows: int64 [N], the query of each label; one label a query, in order, when left out. A query costs the same with many labels.
        scale: one over the temperature.
        bias: float32 [M], added to the logits of each item; no gradient; ``-inf`` takes an item out.
        bounded: vectors have at most unit length, so that logits cannot exceed ``scale``.
        precision: of the logits; bfloat16 is three to four times as fast on a CPU with such instructions, and logits have three digits.

    Returns:
        Scalar float32 with gradients for queries and items.
    """
    steps = (rows, scale, bias, bounded and bias is None and scale <= _SAFE, precision)
    return cast(Tensor, _LinearCrossEntropy.apply(queries, items, labels, weights, *steps))  # type: ignore[no-untyped-call]


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        queries: Tensor,
        items: Tensor,
        labels: Tensor,
        weights: Tensor,
        rows: Tensor | None,
        scale: float,
        bias: Tensor | None,
        small: bool,
        precision: torch.dtype,
    ) -> Tensor:
        table = _Table(items.detach().to(precision), None if bias is None else bias.to(precision), small)
        grad_queries, grad_items = torch.empty_like(queries), torch.zeros_like(items)
        sums = queries.new_empty(queries.shape[0])
        total = weights if rows is None else torch.zeros_like(sums).index_add_(0, rows, weights)
        scaled = (queries.detach() * scale).to(precision)
        with torch.autocast(queries.device.type, enabled=False):
            for some in _pieces(queries.shape[0], table.rows_at_once):
                part = _Part(table, scaled[some])
                sums[some] = part.log_sums
                grad_queries[some] = part.mean_items(total[some] * scale)
                part.add_to_items(grad_items, queries.detach()[some] * (total[some] * scale).unsqueeze(1))
        own, asking = items.detach().index_select(0, labels), queries.detach()
        if rows is not None:
            asking, sums = asking.index_select(0, rows), sums.index_select(0, rows)
        positive = (asking * own).sum(1) * scale
        if bias is not None:
            positive = positive + bias.index_select(0, labels)
        pull = (weights * scale).unsqueeze(1)
        if rows is None:
            grad_queries.addcmul_(own, pull, value=-1.0)
        else:
            grad_queries.index_add_(0, rows, own * pull, alpha=-1.0)
        grad_items.index_add_(0, labels, asking * pull, alpha=-1.0)
        ctx.save_for_backward(grad_queries, grad_items)
        return torch.where(weights == 0, 0.0, weights * (sums - positive)).sum()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Scale what the forward made."""
        queries, items = ctx.saved_tensors
        return (queries * grads[0], items * grads[0], *(None,) * 7)


class _Table:
    """The items as the products want them: with a column of ones, whose product with exponentials is their sum."""

    def __init__(self, items: Tensor, bias: Tensor | None, small: bool) -> None:
        self.items, self.bias, self.small = items, bias, small
        self.with_ones = torch.cat([items, items.new_ones(items.shape[0], 1)], 1)
        self.blocks = list(_pieces(items.shape[0], _BLOCK))
        widest = max(1, min(items.shape[0], _BLOCK))
        self.rows_at_once = max(16, _BUDGET.get(items.device.type, _BUDGET["cuda"]) // (widest * items.element_size()))

    def logits(self, queries: Tensor, block: slice) -> Tensor:
        """[R, C] of one block."""
        items = self.items[block].T
        return torch.mm(queries, items) if self.bias is None else torch.addmm(self.bias[block], queries, items)


class _Part:
    """Some queries against all items: the sums of their exponentials, and the gradients that follow from them."""

    def __init__(self, table: _Table, queries: Tensor) -> None:
        self._table, self._queries = table, queries
        self._top = queries.new_zeros(queries.shape[0], 1) if table.small else self._maximum()
        self._held: Tensor | None = None
        total = queries.new_zeros(queries.shape[0], table.with_ones.shape[1], dtype=torch.float32)
        for block in table.blocks:
            exponentials = self._exponentials(block)
            total += torch.mm(exponentials, table.with_ones[block]).float()
            self._held = exponentials if len(table.blocks) == 1 else None
        self._items, self._sums = total[:, :-1], total[:, -1]

    @property
    def log_sums(self) -> Tensor:
        """log sum_j exp(s_ij), [R]."""
        return self._sums.log() + self._top.squeeze(1).float()

    def mean_items(self, factor: Tensor) -> Tensor:
        """The mean item under the softmax of each query, times its factor, [R, E]."""
        return self._items * (factor / self._sums).unsqueeze(1)

    def add_to_items(self, grad: Tensor, queries: Tensor) -> None:
        """Add to each item, [M, E], the queries [R, E] weighted by its softmax."""
        share = (queries / self._sums.unsqueeze(1)).to(self._queries.dtype)
        for block in self._table.blocks:
            exponentials = self._exponentials(block) if self._held is None else self._held
            grad[block] += torch.mm(exponentials.T, share)

    def _maximum(self) -> Tensor:
        return torch.stack([self._table.logits(self._queries, block).amax(1) for block in self._table.blocks]).amax(0).unsqueeze(1)

    def _exponentials(self, block: slice) -> Tensor:
        logits = self._table.logits(self._queries, block)
        return (logits if self._table.small else logits.sub_(self._top)).exp_()


def _pieces(rows: int, size: int) -> Iterator[slice]:
    for start in range(0, rows, size):
        yield slice(start, min(start + size, rows))
