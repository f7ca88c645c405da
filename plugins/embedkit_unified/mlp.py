"""A head with hidden layers: what predicts a label on top of a trunk."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from embedkit.nn.head import Head, HeadContext
from embedkit_unified.configs import MlpHeadConfig

_ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU}


class Mlp(Head):
    """P → hidden → … → E, row by row."""

    config: MlpHeadConfig

    def __init__(self, config: MlpHeadConfig, *, context: HeadContext) -> None:
        super().__init__(config, context=context)
        layers: list[nn.Module] = []
        for before, after in pairwise([context.dim, *config.hidden]):
            layers += [nn.Linear(before, after), _ACTIVATIONS[config.activation]()]
            if config.dropout:
                layers.append(nn.Dropout(config.dropout))
        self.layers = nn.Sequential(*layers, nn.Linear([context.dim, *config.hidden][-1], self.prefixes[-1]))

    def forward(self, pooled: Tensor) -> Tensor:
        """[..., P] → [..., E]."""
        out: Tensor = self.layers(pooled)
        return out
