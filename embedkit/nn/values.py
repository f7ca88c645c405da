"""Tokens and Outputs: what travels inside a model. Shape letters: B rows, L tokens, D token width, E embedding width."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Tokens:
    """Encoded fields as a sequence of vectors.

    Attributes:
        x: [B, L, D].
        pad: bool [B, L], True where there is no token.
        hidden: bool [B, L], True where the token stands for a hidden value.
        spans: field → its slice of the L tokens.
    """

    x: Tensor
    pad: Tensor
    hidden: Tensor
    spans: Mapping[str, slice]

    @classmethod
    def cat(cls, parts: list[Tokens]) -> Tokens:
        """Concatenate along L."""
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


@dataclass(frozen=True, eq=False)
class Outputs:
    """What one forward of one tower gives.

    Attributes:
        tokens: after the trunk, [B, L, D].
        pooled: [B, D], or [N, D] for windows: one row for each of the N values of the window field, in ragged order.
        embedding: [B, E] or [N, E], unit length when ``normalized``.
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
        if dim == self.embedding.shape[-1]:
            return self
        raw = self.raw[..., :dim]
        embedding = F.normalize(raw, dim=-1) if self.normalized else raw
        kept = tuple(p for p in self.prefixes if p <= dim)
        return replace(self, embedding=embedding, raw=raw, prefixes=kept)
