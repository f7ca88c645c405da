"""Trunk: Tokens of a tower → Tokens, and one pooled vector a row (or a position)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from embedkit.component import Component
from embedkit.nn.values import Tokens
from embedkit.schema import FieldSpec


@dataclass(frozen=True)
class TrunkContext:
    """What a trunk is built from besides its options.

    Attributes:
        tower: name of the tower.
        fields: its fields, in run-file order (the order of the spans).
        dim: token width D.
        max_lengths: field → most tokens it can give (1 for fields of one token).
    """

    tower: str
    fields: tuple[FieldSpec, ...]
    dim: int
    max_lengths: Mapping[str, int] = field(default_factory=dict)


class Trunk(Component, nn.Module):
    """Base of trunks. Those of its parts that are a ``Layer`` are compiled where the run file asks for it."""

    windows: bool = False
    """Whether it, as configured, can give one vector a position of a window field, each seeing only earlier positions and other fields."""
    sequences: bool = False
    """Whether it, as configured, can give one vector a position of a window field, each seeing all of them (``rows = "sequences"``)."""
    num_layers: int = 0
    """Depth, for losses that ask for layers; 0 when it has none to show."""

    context: TrunkContext

    @property
    def pooled_dim(self) -> int:
        """Width P of pooled vectors: the token width D unless a trunk says otherwise."""
        return self.context.dim

    @abstractmethod
    def forward(
        self, tokens: Tokens, *, window: str | None = None, layers: tuple[int, ...] = ()
    ) -> tuple[Tokens, Tensor, dict[int, Tensor]]:
        """Transform tokens.

        Args:
            tokens: x [B, L, D]; fields of the tower that a view leaves out have no span.
            window: field whose every position wants a vector; only trunks with ``windows`` are called with it.
            layers: depths (1-based) whose token states are wanted.

        Returns:
            tokens [B, L', D]; pooled [B, P], or, with ``window``, [B, W, P] for the W tokens of that field (rows that are padding hold
            anything; the model drops them); and the layers asked for. A row whose tokens are all padding pools to zeros, never NaN.
            A trunk may add tokens of its own under span names that no field has.
        """
