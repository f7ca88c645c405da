"""The trunk ``cross``: explicit feature crosses (DCN-V2, Wang et al., WWW 2021, arXiv 2008.13535, sections 3.1 to 3.3; from memory)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from embedkit.nn.layer import Layer
from embedkit.nn.pooling import slots, without_empty
from embedkit.nn.trunk import Trunk, TrunkContext
from embedkit.nn.values import Tokens
from embedkit_tabular.configs import CrossConfig
from embedkit_tabular.trunks import perceptron


class CrossLayer(Layer):
    """``x0 * (W x + b) + x``; with a rank, ``W = U V`` (section 3.5 there).

    Args:
        width: numbers of x.
        rank: inner width of the product; None for a full matrix.
    """

    def __init__(self, width: int, rank: int | None) -> None:
        super().__init__()
        full = nn.Linear(width, width)
        self.linear = full if rank is None else nn.Sequential(nn.Linear(width, rank, bias=False), nn.Linear(rank, width))

    def forward(self, first: Tensor, x: Tensor) -> Tensor:
        """x0 and x, both [B, width] → [B, width]."""
        crossed: Tensor = first * self.linear(x) + x
        return crossed


class Cross(Trunk):
    """Every field's tokens averaged to one slot, the slots side by side [F * D]; cross layers over them; a perceptron beside them
    (``parallel``) or on top (``stacked``); then one linear map to [D].

    A field that a row or a view lacks has a slot of zeros, and crosses with nothing.
    """

    config: CrossConfig

    def __init__(self, config: CrossConfig, *, context: TrunkContext) -> None:
        super().__init__(config, context=context)
        width = len(context.fields) * context.dim
        self.crosses = nn.ModuleList(CrossLayer(width, config.rank) for _ in range(config.layers))
        self.deep = perceptron([width, *config.hidden], config.activation, config.dropout)
        deep = config.hidden[-1] if config.hidden else width
        beside = width if config.hidden and config.structure == "parallel" else 0
        self.projection = nn.Linear(deep + beside, context.dim)

    def forward(
        self, tokens: Tokens, *, window: str | None = None, layers: tuple[int, ...] = ()
    ) -> tuple[Tokens, Tensor, dict[int, Tensor]]:
        """See ``Trunk.forward``."""
        first = slots(tokens, [spec.name for spec in self.context.fields]).flatten(1)
        x = first
        for cross in self.crosses:
            x = cross(first, x)
        if not self.config.hidden:
            joined = x
        elif self.config.structure == "stacked":
            joined = self.deep(x)
        else:
            joined = torch.cat([x, self.deep(first)], 1)
        return tokens, without_empty(self.projection(joined), tokens.pad), {}
