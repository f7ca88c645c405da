"""Means over tokens that leave padding out, of whole rows and of every position of a window. A mean over nothing is zero."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from embedkit.nn.values import Tokens
from embedkit.schema import FieldSpec


def masked_mean(x: Tensor, pad: Tensor) -> Tensor:
    """The mean of the tokens that are there: x [B, L, D], pad bool [B, L] → [B, D]."""
    if x.shape[1] == 1:
        return blank(x[:, 0], pad[:, 0])
    total = blank(x, pad).sum(1)
    return total / (~pad).sum(1, keepdim=True).clamp(min=1).to(total.dtype)


def slots(tokens: Tokens, fields: Sequence[str]) -> Tensor:
    """One vector a field, in this order: the mean of its tokens, zeros for a field without any, [B, F, D]."""
    spans = [tokens.spans.get(name) for name in fields]
    first = spans[0].start if spans and spans[0] is not None else 0
    if spans == [slice(first + i, first + i + 1) for i in range(len(spans))]:  # one token each, in this order: hundreds cost one copy
        whole = slice(first, first + len(spans))
        return blank(tokens.x[:, whole], tokens.pad[:, whole])
    absent = tokens.x.new_zeros(tokens.x.shape[0], tokens.x.shape[2])
    return torch.stack([absent if s is None else masked_mean(tokens.x[:, s], tokens.pad[:, s]) for s in spans], 1)


def running_mean(tokens: Tokens, window: str, ordered: Iterable[str]) -> Tensor:
    """For each position t of a window field, the mean of what it may see.

    It sees the first t + 1 tokens of every ordered field and all tokens of the others, so that no position learns of a later one.

    Args:
        tokens: x [B, L, D].
        window: the field whose W positions are meant.
        ordered: fields whose tokens stand for moments, ``window`` among them.

    Returns:
        [B, W, D].
    """
    span = tokens.spans[window]
    width = span.stop - span.start
    x = blank(tokens.x, tokens.pad)
    kept = (~tokens.pad).to(x.dtype).unsqueeze(-1)
    total, count = x.new_zeros(1), x.new_zeros(1)
    moving = set(ordered)
    for name, part in tokens.spans.items():
        values, ones = x[:, part], kept[:, part]
        if name in moving:
            total, count = total + _running_sum(values, width), count + _running_sum(ones, width)
        else:
            total, count = total + values.sum(1, keepdim=True), count + ones.sum(1, keepdim=True)
    return total / count.clamp(min=1)


def ordered_fields(fields: Iterable[FieldSpec]) -> frozenset[str]:
    """The fields whose tokens stand for moments in order: sequences."""
    return frozenset(spec.name for spec in fields if spec.type == "sequence")


def without_empty(pooled: Tensor, pad: Tensor) -> Tensor:
    """Zeros for rows without any token: pooled [B, …, D], pad bool [B, L]."""
    nothing = pad.all(1)
    return blank(pooled, nothing.view(-1, *([1] * (pooled.dim() - 2))))


def blank(x: Tensor, nothing: Tensor) -> Tensor:
    """Zeros for the vectors of x [..., D] that ``nothing`` (bool [...], or one that broadcasts to it) marks.

    On a CPU a look at the mask comes first: mostly it marks none, and to fill costs as much as six copies. A GPU would wait for that look.
    """
    if nothing.device.type == "cpu" and not torch.compiler.is_compiling() and not bool(nothing.any()):
        return x
    return x.masked_fill(nothing.unsqueeze(-1), 0.0)


def _running_sum(x: Tensor, width: int) -> Tensor:
    """[B, L, D] → [B, width, D]: sums of the first 1, 2, … tokens; past the end the whole sum."""
    sums = torch.cumsum(x[:, :width], 1)
    missing = width - sums.shape[1]
    return sums if missing <= 0 else torch.cat([sums, sums[:, -1:].expand(-1, missing, -1)], 1)
