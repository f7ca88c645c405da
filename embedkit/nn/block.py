"""Block: one layer of a pre-norm transformer, for trunks and for predictors of losses."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from embedkit.nn.layer import Layer


class Block(Layer):
    """Attention and feed-forward, each on a normalised input and added to it (pre-norm; Xiong et al. 2020, arXiv 2002.04745).

    Args:
        dim: token width D; ``heads`` must divide it.
        heads: attention heads.
        hidden: width of the feed-forward layer.
        dropout: share of what each half adds that is dropped while training.
        depth: blocks of the stack, by which the initial size of what is added goes.
    """

    def __init__(self, dim: int, heads: int, hidden: int, dropout: float, depth: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.norm_hidden = nn.LayerNorm(dim)
        self.wide = nn.Linear(dim, hidden)
        self.narrow = nn.Linear(hidden, dim)
        self.dropout = nn.Dropout(dropout)
        for linear in (self.out, self.narrow):  # what enters the residual sum starts small, the smaller the deeper the stack
            nn.init.normal_(linear.weight, std=0.02 / math.sqrt(2 * depth))
            nn.init.zeros_(linear.bias)

    def forward(
        self, x: Tensor, mask: Tensor | None = None, causal: bool = False, turn: Callable[[Tensor], Tensor] | None = None
    ) -> Tensor:
        """x [B, L, D] → [B, L, D].

        Args:
            x: tokens.
            mask: bool, broadcast to [B, 1, L, L], True where a query (third) may see a key (last).
            causal: each token sees those up to itself; instead of a mask.
            turn: what is done to queries and keys [B, heads, L, D / heads], such as ``Rotary``.
        """
        q, k, v = self.qkv(self.norm_attention(x)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if turn is not None:
            q, k = turn(q), turn(k)
        seen = attend(q, k, v, mask, causal)
        x = x + self.dropout(self.out(seen.transpose(1, 2).flatten(2)))
        out: Tensor = x + self.dropout(self.narrow(F.gelu(self.wide(self.norm_hidden(x)))))
        return out


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
    """Scaled dot-product attention of [B, heads, L, D / heads]; see ``Block.forward``.

    On a CPU in float32, whatever came: in bfloat16 its forward is no faster, and its backward five to ten times as slow (32 rows of 16 to
    50 tokens, torch 2.13; from 500 tokens on both take as long).
    """
    if q.device.type != "cpu" or q.dtype == torch.float32:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
    with torch.autocast("cpu", enabled=False):
        return F.scaled_dot_product_attention(q.float(), k.float(), v.float(), attn_mask=mask, is_causal=causal)


class Rotary:
    """Rotary positions (Su et al. 2021, arXiv 2104.09864, section 3.2.2): pairs of numbers turned by an angle that grows with the position,
    so that a query and a key compare by how far apart they are.

    Args:
        moments: int64 [L], the position of each token; one below zero is not turned.
        width: numbers a head, even.
        base: the slowest pair turns about 1 / base a position.
    """

    def __init__(self, moments: Tensor, width: int, base: float = 10_000.0) -> None:
        speed = base ** (-torch.arange(0, width, 2, device=moments.device, dtype=torch.float32) / width)
        angle = moments.clamp(min=0).float().unsqueeze(1) * speed
        self._cos, self._sin = angle.cos(), angle.sin()

    def __call__(self, x: Tensor) -> Tensor:
        """[..., L, width] → the same, turned, in its own type."""
        first, second = x.float().chunk(2, -1)
        turned = torch.cat([first * self._cos - second * self._sin, first * self._sin + second * self._cos], -1)
        return turned.to(x.dtype)
