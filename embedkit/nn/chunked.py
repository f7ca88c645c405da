"""Softmax cross entropy of queries against candidates, without ever holding all logits of a large batch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

MOST_LOGITS = 2**24
"""Logits that are held at once: 64 MiB in float32, and with masks, softmax and gradients about six times that."""


def cross_entropy(
    queries: Tensor,
    candidates: Tensor,
    own: Tensor,
    *,
    scale: float = 1.0,
    correction: Tensor | None = None,
    rows: tuple[Tensor, Tensor] | None = None,
    positive: Tensor | None = None,
    most: int = MOST_LOGITS,
) -> Tensor:
    """``-log softmax_j(scale q_i . c_j + correction_j)`` at the positive of every query, float32 [N].

    Where N x C logits are more than ``most``, they are computed a few queries at a time, and once more in backward: memory is bounded,
    gradients are exact.

    Args:
        queries: [N, E].
        candidates: [C, E].
        own: int64 [N], which candidate is the query's positive; -1 where none is (``positive`` is then needed).
        scale: factor of the similarities.
        correction: [C], added to the logits of each candidate.
        rows: what the queries' positives [N] and the candidates [C] are by number: a copy of a query's positive is left out for it.
        positive: [N], logits of the positives, when not all of them are among the candidates; those that are count once.
        most: logits that may be held at once.
    """
    count = max(1, most // max(1, candidates.shape[0]))
    numbers, candidate_rows = (None, None) if rows is None else rows
    if queries.shape[0] <= count:
        return _losses(queries, candidates, own, numbers, candidate_rows, positive, correction, scale)
    found = []
    for start in range(0, queries.shape[0], count):
        q, o, n, p = (None if x is None else x.narrow(0, start, min(count, x.shape[0] - start)) for x in (queries, own, numbers, positive))
        found.append(checkpoint(_losses, q, candidates, o, n, candidate_rows, p, correction, scale, use_reentrant=False))
    return torch.cat(found)


def _losses(
    queries: Tensor,
    candidates: Tensor,
    own: Tensor,
    rows: Tensor | None,
    candidate_rows: Tensor | None,
    positive: Tensor | None,
    correction: Tensor | None,
    scale: float,
) -> Tensor:
    if correction is None:
        correction = queries.new_zeros(())
    logits = torch.addmm(correction, queries, candidates.T, alpha=scale)
    if candidate_rows is not None and rows is not None:
        left_out = candidate_rows == rows.unsqueeze(1)
        if positive is None:
            left_out.scatter_(1, own.unsqueeze(1), False)
    elif positive is not None:
        left_out = torch.arange(candidates.shape[0], device=own.device) == own.unsqueeze(1)
    else:
        return F.cross_entropy(logits, own, reduction="none")
    logits = logits.masked_fill_(left_out, -torch.inf)
    if positive is None:
        return F.cross_entropy(logits, own, reduction="none")
    return F.cross_entropy(torch.cat([positive.unsqueeze(1), logits], 1), torch.zeros_like(own), reduction="none")
