"""Cross entropy of queries against all rows of a table, without ever holding queries x rows."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from embedkit.nn.partition import Items, Sums, pieces


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
        precision: of the logits; in bfloat16, which is faster on GPUs and on CPUs with matrix units for it, they have three digits.

    Returns:
        Scalar float32 with gradients for queries and items.
    """
    options = (rows, scale, bias, bounded, precision)
    return cast(Tensor, _LinearCrossEntropy.apply(queries, items, labels, weights, *options))  # type: ignore[no-untyped-call]


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
        bounded: bool,
        precision: torch.dtype,
    ) -> Tensor:
        table = Items(items.detach(), scale, bias, bounded, precision)
        grad_queries, grad_items = torch.empty_like(queries), torch.zeros_like(items)
        asking, sums = queries.detach(), queries.new_empty(queries.shape[0])
        total = weights if rows is None else torch.zeros_like(sums).index_add_(0, rows, weights)
        with torch.autocast(queries.device.type, enabled=False):
            for some in pieces(queries.shape[0], table.queries_at_once):
                part = Sums(table, asking[some])
                sums[some] = part.log_sums
                grad_queries[some] = part.mean_items(total[some] * scale)
                part.add_to_items(grad_items, asking[some] * (total[some] * scale).unsqueeze(1))
        own = items.detach().index_select(0, labels)
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
