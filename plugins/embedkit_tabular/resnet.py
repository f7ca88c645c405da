"""ResNet: a residual perceptron (Gorishniy et al. 2021, arXiv 2106.11959, section 3.2), as a trunk and as a head."""

from __future__ import annotations

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from embedkit.nn.head import Head, HeadContext
from embedkit.nn.layer import Layer
from embedkit.nn.pooling import slots, without_empty
from embedkit.nn.trunk import Trunk, TrunkContext
from embedkit.nn.values import Tokens
from embedkit_tabular.configs import ResNetConfig, ResNetHeadConfig, ResNetOptions


class RowNorm(nn.BatchNorm1d):
    """Batch normalisation that a training batch of one row passes by its running statistics: it has no variance of its own."""

    def forward(self, input: Tensor) -> Tensor:
        """[B, D] → [B, D]."""
        if self.training and input.shape[0] < 2:
            assert self.running_mean is not None
            assert self.running_var is not None
            return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
        return super().forward(input)


class ResNetBlock(Layer):
    """``x + Dropout(Linear(Dropout(ReLU(Linear(Norm(x))))))``."""

    def __init__(self, dim: int, hidden: int, config: ResNetOptions) -> None:
        super().__init__()
        self.norm = _norm(dim, config)
        self.wide = nn.Linear(dim, hidden)
        self.narrow = nn.Linear(hidden, dim)
        self.inner = nn.Dropout(config.hidden_dropout)
        self.outer = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """[B, D] → [B, D]."""
        added = self.narrow(self.inner(F.relu(self.wide(self.norm(x)))))
        return cast(Tensor, x + self.outer(added))


class Residual(nn.Module):
    """What trunk and head share: a linear map to the width of the blocks, residual blocks, then ``Linear(ReLU(Norm(x)))``."""

    def _build(self, before: int, width: int, after: int, config: ResNetOptions) -> None:
        self.first = nn.Linear(before, width)
        hidden = round(config.hidden_factor * width)
        self.blocks = nn.Sequential(*(ResNetBlock(width, max(1, hidden), config) for _ in range(config.layers)))
        self.norm = _norm(width, config)
        self.last = nn.Linear(width, after)

    def _residual(self, x: Tensor) -> Tensor:
        """[B, before] → [B, after]."""
        return cast(Tensor, self.last(F.relu(self.norm(self.blocks(self.first(x))))))


class ResNet(Trunk, Residual):
    """The fields side by side, then ``Residual``.

    A field that a row or a view lacks has a slot of zeros; tokens are returned as they came.
    """

    config: ResNetConfig

    def __init__(self, config: ResNetConfig, *, context: TrunkContext) -> None:
        super().__init__(config, context=context)
        self._names = [spec.name for spec in context.fields]
        self._build(len(self._names) * context.dim, config.width or context.dim, context.dim, config)

    def forward(
        self, tokens: Tokens, *, window: str | None = None, layers: tuple[int, ...] = ()
    ) -> tuple[Tokens, Tensor, dict[int, Tensor]]:
        """See ``Trunk.forward``."""
        pooled = self._residual(slots(tokens, self._names).flatten(1))
        return tokens, without_empty(pooled, tokens.pad), {}


class ResNetHead(Head, Residual):
    """``Residual`` over a row's vector, such as the features that a ``feature_transformer`` lays side by side."""

    config: ResNetHeadConfig

    def __init__(self, config: ResNetHeadConfig, *, context: HeadContext) -> None:
        super().__init__(config, context=context)
        self._build(context.dim, config.width, self.prefixes[-1], config)

    def forward(self, pooled: Tensor) -> Tensor:
        """[..., P] → [..., E]; with ``norm = "batch"`` all leading dimensions are rows of one batch."""
        return self._residual(pooled.flatten(0, -2)).unflatten(0, pooled.shape[:-1])


def _norm(dim: int, config: ResNetOptions) -> nn.Module:
    return RowNorm(dim) if config.norm == "batch" else nn.LayerNorm(dim)
