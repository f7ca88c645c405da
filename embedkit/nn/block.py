"""Block: one layer of a pre-norm transformer, for trunks and for predictors of losses."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn


class Block(nn.Module):
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

    def forward(self, x: Tensor, mask: Tensor | None = None, causal: bool = False) -> Tensor:
        """x [B, L, D] → [B, L, D]; mask bool, broadcast to [B, 1, L, L], True where a query (third) may see a key (last)."""
        q, k, v = self.qkv(self.norm_attention(x)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
        x = x + self.dropout(self.out(seen.transpose(1, 2).flatten(2)))
        out: Tensor = x + self.dropout(self.narrow(F.gelu(self.wide(self.norm_hidden(x)))))
        return out
