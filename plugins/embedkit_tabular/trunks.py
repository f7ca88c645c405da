"""Trunks that read a row: mlp, mean and attention pooling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from embedkit.errors import UsageError
from embedkit.nn.pooling import masked_mean, ordered_fields, running_mean, slots, without_empty
from embedkit.nn.trunk import Trunk, TrunkContext
from embedkit.nn.values import Tokens
from embedkit_tabular.configs import AttentionConfig, MeanConfig, MlpConfig

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU}


def perceptron(widths: Sequence[int], activation: str, dropout: float) -> nn.Sequential:
    """Linear layers between these widths, each with its activation and dropout."""
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), ACTIVATIONS[activation]()]
        if dropout:
            layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers)


class Mlp(Trunk):
    """Every field's tokens averaged to one slot, the slots side by side, then a perceptron [F * D] → hidden → [D].

    A field that a row or a view lacks has a slot of zeros. Each field has weights of its own in the first layer.
    """

    config: MlpConfig

    def __init__(self, config: MlpConfig, *, context: TrunkContext) -> None:
        super().__init__(config, context=context)
        widths = [len(context.fields) * context.dim, *config.hidden]
        hidden = perceptron(widths, config.activation, config.dropout)
        self.layers = nn.Sequential(*hidden, nn.Linear(widths[-1], context.dim))

    def forward(
        self, tokens: Tokens, *, window: str | None = None, layers: tuple[int, ...] = ()
    ) -> tuple[Tokens, Tensor, dict[int, Tensor]]:
        """See ``Trunk.forward``."""
        pooled = self.layers(slots(tokens, [spec.name for spec in self.context.fields]).flatten(1))
        if self.config.residual:
            pooled = pooled + masked_mean(tokens.x, tokens.pad)
        return tokens, without_empty(pooled, tokens.pad), {}


class Mean(Trunk):
    """The mean of all tokens that are there. In a window, position t averages values up to its own and the other fields."""

    windows = True
    config: MeanConfig

    def __init__(self, config: MeanConfig, *, context: TrunkContext) -> None:
        super().__init__(config, context=context)
        self.norm = nn.LayerNorm(context.dim) if config.norm else nn.Identity()
        self._ordered = ordered_fields(context.fields)

    def forward(
        self, tokens: Tokens, *, window: str | None = None, layers: tuple[int, ...] = ()
    ) -> tuple[Tokens, Tensor, dict[int, Tensor]]:
        """See ``Trunk.forward``."""
        if window is None:
            pooled = masked_mean(tokens.x, tokens.pad)
        else:
            pooled = running_mean(tokens, window, self._ordered | {window})
        return tokens, without_empty(self.norm(pooled), tokens.pad), {}


class Attention(Trunk):
    """Attention pooling: each of some learned queries weighs the tokens by a softmax and reads its part of their values."""

    config: AttentionConfig

    def __init__(self, config: AttentionConfig, *, context: TrunkContext) -> None:
        super().__init__(config, context=context)
        if context.dim % config.heads:
            raise UsageError(f"tower '{context.tower}': attention's {config.heads} heads do not divide the model's dim {context.dim}")
        self.score = nn.Linear(context.dim, config.heads, bias=False)
        self.value = nn.Linear(context.dim, context.dim)
        nn.init.normal_(self.score.weight, std=1 / math.sqrt(context.dim))

    def forward(
        self, tokens: Tokens, *, window: str | None = None, layers: tuple[int, ...] = ()
    ) -> tuple[Tokens, Tensor, dict[int, Tensor]]:
        """See ``Trunk.forward``."""
        # The most negative number, not -inf: a row without any token would give NaN, in its gradient too.
        scores = self.score(tokens.x).float()
        weights = scores.masked_fill(tokens.pad.unsqueeze(-1), torch.finfo(torch.float32).min).softmax(1)
        values = self.value(tokens.x).float().unflatten(2, (self.config.heads, -1))
        pooled = (weights.unsqueeze(-1) * values).sum(1).flatten(1)
        return tokens, without_empty(pooled, tokens.pad), {}
