"""The perceptron between embeddings and a self-supervised loss. It is part of the loss, so it is dropped after training."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn


class Projector(nn.Module):
    """Linear, batch norm and ReLU for each width but the last, then a linear map without bias; nothing at all without widths.

    Batch norm keeps no running statistics: a loss is never evaluated on a single row, and its ``forward`` must change no buffer. With
    several processes it is given the rows of all of them, so that its statistics are those of the whole batch.

    Args:
        dim: width of the embedding.
        widths: of the layers.
    """

    def __init__(self, dim: int, widths: Sequence[int]) -> None:
        super().__init__()
        sizes = [dim, *widths]
        layers: list[nn.Module] = []
        for before, after in pairwise(sizes[:-1]):
            layers += [nn.Linear(before, after, bias=False), nn.BatchNorm1d(after, track_running_stats=False), nn.ReLU()]
        if widths:
            layers.append(nn.Linear(sizes[-2], sizes[-1], bias=False))
        self.layers = nn.Sequential(*layers)

    def __len__(self) -> int:
        return len(self.layers)

    def forward(self, raw: Tensor) -> Tensor:
        """The head's output before it is normalised, [B, E] → float32 [B, widths[-1]]."""
        out: Tensor = self.layers(raw.float())
        return out
