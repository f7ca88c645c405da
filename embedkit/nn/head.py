"""Head: pooled vectors → embeddings with nested prefixes. Heads are row-wise, so rows and window positions share them."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

from torch import Tensor, nn

from embedkit.component import Component
from embedkit.space import Metric


@dataclass(frozen=True)
class HeadContext:
    """What a head is built from besides its options: the tower's name and the width P of pooled vectors."""

    tower: str
    dim: int


class Head(Component, nn.Module):
    """Base of heads. ``forward`` maps [..., P] to [..., E] before normalisation; the model normalises when ``normalized``.

    Options ``dim`` and ``normalize``, where a head has them, say E (P when left out) and ``normalized``.
    """

    context: HeadContext

    @property
    def prefixes(self) -> tuple[int, ...]:
        """Nested widths, ascending, the last one E. One width unless a head says otherwise."""
        return (getattr(self.config, "dim", None) or self.context.dim,)

    @property
    def normalized(self) -> bool:
        """Whether embeddings are brought to unit length."""
        return bool(getattr(self.config, "normalize", True))

    @property
    def metric(self) -> Metric:
        """How embeddings are compared: by cosine when they have unit length, else by dot product."""
        return "cosine" if self.normalized else "dot"

    @abstractmethod
    def forward(self, pooled: Tensor) -> Tensor:
        """[..., P] → [..., E]."""
