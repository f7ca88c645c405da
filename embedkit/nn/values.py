"""Tokens and Outputs: what travels inside a model. Shape letters: B rows, L tokens, D token width, E embedding width."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from embedkit.errors import UsageError
from embedkit.nn.unit import unit


@dataclass(frozen=True, eq=False)
class Tokens:
    """Encoded fields as a sequence of vectors.

    Attributes:
        x: [B, L, D].
        pad: bool [B, L], True where there is no token.
        hidden: bool [B, L], True where the token stands for a hidden value.
        spans: field → its slice of the L tokens, in the order of the tokens; after a trunk, its own tokens too.
    """

    x: Tensor
    pad: Tensor
    hidden: Tensor
    spans: Mapping[str, slice]

    @classmethod
    def cat(cls, parts: list[Tokens]) -> Tokens:
        """Concatenate along L, in the given order; at least one."""
        if len(parts) == 1:
            return parts[0]
        spans: dict[str, slice] = {}
        base = 0
        for part in parts:
            spans |= {name: slice(s.start + base, s.stop + base) for name, s in part.spans.items()}
            base += part.x.shape[1]
        return cls(
            torch.cat([p.x for p in parts], 1),
            torch.cat([p.pad for p in parts], 1),
            torch.cat([p.hidden for p in parts], 1),
            spans,
        )

    def mixed(self, other: Tokens, rows: Tensor, share: float) -> Tokens:
        """``share`` of these tokens and the rest of another view's, whose row ``rows[i]`` goes with row i, field by field.

        A token that only one side has is mixed with zeros; it counts as hidden where neither side shows a value.
        """
        parts = []
        for name, own in self.spans.items():
            span = other.spans[name]
            ours = (self.x[:, own], self.pad[:, own], self.hidden[:, own])
            theirs = [tensor[:, span].index_select(0, rows) for tensor in (other.x, other.pad, other.hidden)]
            width = max(ours[0].shape[1], theirs[0].shape[1])
            x, pad, hidden = (_longer(tensor, width) for tensor in ours)
            x2, pad2, hidden2 = (_longer(tensor, width) for tensor in theirs)
            x = share * x.masked_fill(pad.unsqueeze(-1), 0.0) + (1.0 - share) * x2.masked_fill(pad2.unsqueeze(-1), 0.0)
            neither = (pad | hidden) & (pad2 | hidden2) & ~(pad & pad2)
            parts.append(Tokens(x, pad & pad2, neither, {name: slice(0, width)}))
        return Tokens.cat(parts)

    def select(self, fields: Sequence[str]) -> Tokens:
        """The tokens of these fields, in this order; the same object when that is what it holds."""
        if list(self.spans) == list(fields):
            return self
        parts = [
            Tokens(self.x[:, s], self.pad[:, s], self.hidden[:, s], {name: slice(0, s.stop - s.start)})
            for name, s in ((name, self.spans[name]) for name in fields)
        ]
        return Tokens.cat(parts)


def stack_rows(parts: Sequence[Tokens]) -> Tokens:
    """Tokens of the same fields, row after row; a field that is shorter in one part than in another is padded there.

    Raises:
        UsageError: parts of other lengths have tokens that belong to no field.
    """
    spans = parts[0].spans
    if any(part.spans != spans or part.x.shape[1] != parts[0].x.shape[1] for part in parts):
        widths = {name: max(part.spans[name].stop - part.spans[name].start for part in parts) for name in spans}
        parts = [_widened(part, widths) for part in parts]
        spans = parts[0].spans
    return Tokens(torch.cat([p.x for p in parts]), torch.cat([p.pad for p in parts]), torch.cat([p.hidden for p in parts]), spans)


def _widened(tokens: Tokens, widths: Mapping[str, int]) -> Tokens:
    """Each field's tokens padded to these numbers of tokens."""
    if sum(s.stop - s.start for s in tokens.spans.values()) != tokens.x.shape[1]:
        raise UsageError("tokens that belong to no field cannot be put together where rows have other lengths: leave forward_rows out")
    fields = []
    for name, width in widths.items():
        own = tokens.spans[name]
        more = width - (own.stop - own.start)
        fields.append(
            Tokens(
                F.pad(tokens.x[:, own], (0, 0, 0, more)),
                F.pad(tokens.pad[:, own], (0, more), value=True),
                F.pad(tokens.hidden[:, own], (0, more)),
                {name: slice(0, width)},
            )
        )
    return Tokens.cat(fields)


def _longer(x: Tensor, width: int) -> Tensor:
    """[B, L, …] → [B, width, …]: zeros behind, or True for a mask of padding."""
    missing = width - x.shape[1]
    return F.pad(x, (0, missing), value=True) if x.dim() == 2 else F.pad(x, (0, 0, 0, missing))


@dataclass(frozen=True, eq=False)
class Outputs:
    """What one forward of one tower gives.

    Attributes:
        tokens: after the trunk, [B, L, D].
        pooled: [B, P], or [N, P] for windows: one row for each of the N values of the window field, in ragged order.
        embedding: float32 [B, E] or [N, E], unit length when ``normalized`` (zeros for a row that has no direction).
        raw: the head's output before normalisation, of the same shape.
        prefixes: nested widths, ascending, the last one E.
        normalized: whether embeddings have unit length.
        layers: depth → [B, L, D], only those that were asked for.
    """

    tokens: Tokens
    pooled: Tensor
    embedding: Tensor
    raw: Tensor
    prefixes: tuple[int, ...]
    normalized: bool = True
    layers: Mapping[int, Tensor] = field(default_factory=dict)

    def prefix(self, dim: int) -> Outputs:
        """The same outputs cut to their first ``dim`` numbers, normalised again (MRL, Kusupati et al. 2022)."""
        if not 0 < dim <= self.embedding.shape[-1]:
            raise UsageError(f"an embedding of {self.embedding.shape[-1]} numbers has no prefix of {dim}")
        if dim == self.embedding.shape[-1]:
            return self
        raw = self.raw[..., :dim]
        embedding = unit(raw) if self.normalized else raw.float()
        kept = (*(p for p in self.prefixes if p < dim), dim)
        return replace(self, embedding=embedding, raw=raw, prefixes=kept)
