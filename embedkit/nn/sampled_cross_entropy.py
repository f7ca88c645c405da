"""Cross entropy of queries against candidates, without ever holding queries x candidates."""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from embedkit.nn.partition import Items, LeftOut, Sums, pieces


def sampled_cross_entropy(
    queries: Tensor,
    positives: Tensor,
    candidates: Tensor,
    weights: Tensor,
    *,
    left_out: tuple[Tensor, Tensor] | None = None,
    scale: float = 1.0,
    bias: Tensor | None = None,
    bounded: bool = False,
    precision: torch.dtype = torch.float32,
) -> Tensor:
    """``sum_n w_n (log(exp(p_n) + sum_j exp(s_nj)) - p_n)`` over the candidates j that query n sees, ``s_nj = scale <q_n, x_j> + bias_j``.

    Logits are made a piece at a time and turned into gradients at once, so neither the forward nor the backward holds [N, C].

    Args:
        queries: float32 [N, E].
        positives: float32 [N], the logit of each query's positive: scaled, and with its own bias.
        candidates: float32 [C, E].
        weights: float32 [N], what each query counts; no gradient.
        left_out: int64 [N] and [C], numbers of the queries and of the candidates: a query does not see candidates of its number, such as
            its positive and copies of it.
        scale: one over the temperature.
        bias: float32 [C], added to the logits of each candidate, such as minus the log of how often it is expected; no gradient.
        bounded: vectors have at most unit length, so that products cannot exceed ``scale``.
        precision: of the candidates' logits; see ``linear_cross_entropy``.

    Returns:
        Scalar float32 with gradients for queries, positives and candidates.
    """
    options = (left_out, scale, bias, bounded, precision)
    return cast(Tensor, _SampledCrossEntropy.apply(queries, positives, candidates, weights, *options))  # type: ignore[no-untyped-call]


class _SampledCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        queries: Tensor,
        positives: Tensor,
        candidates: Tensor,
        weights: Tensor,
        left_out: tuple[Tensor, Tensor] | None,
        scale: float,
        bias: Tensor | None,
        bounded: bool,
        precision: torch.dtype,
    ) -> Tensor:
        items = Items(candidates.detach(), scale, bias, bounded, precision)
        out = None if left_out is None else LeftOut(*left_out)
        asking = queries.detach()
        others, pull = torch.empty_like(positives), torch.empty_like(positives)
        grad_queries, grad_candidates = torch.empty_like(queries), torch.zeros_like(candidates)
        with torch.autocast(queries.device.type, enabled=False):
            for some in pieces(queries.shape[0], items.queries_at_once):
                sums = Sums(items, asking[some], None if out is None else out.pairs(some))
                others[some] = sums.log_sums
                # How likely the model takes the positive for another: the softmax of all the others together.
                pull[some] = weights[some] * torch.sigmoid(others[some] - positives.detach()[some])
                grad_queries[some] = sums.mean_items(pull[some] * scale)
                sums.add_to_items(grad_candidates, asking[some] * (pull[some] * scale).unsqueeze(1))
        ctx.save_for_backward(grad_queries, -pull, grad_candidates)
        return torch.where(weights == 0, 0.0, weights * F.softplus(others - positives)).sum()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Scale what the forward made."""
        return (*(made * grads[0] for made in ctx.saved_tensors), *(None,) * 6)
