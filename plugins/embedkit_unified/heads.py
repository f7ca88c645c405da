"""Heads: one projection, with or without nested prefixes."""

from __future__ import annotations

from torch import Tensor, nn

from embedkit.errors import UsageError
from embedkit.nn.head import Head, HeadContext
from embedkit_unified.configs import LinearConfig, MatryoshkaConfig


class Linear(Head):
    """A linear projection P → E, or the identity. P is the width of the trunk's vector."""

    config: LinearConfig

    def __init__(self, config: LinearConfig, *, context: HeadContext) -> None:
        super().__init__(config, context=context)
        (dim,) = self.prefixes
        self.projection = identity(context, dim) if config.identity else projection(context.dim, dim, config.bias)

    def forward(self, pooled: Tensor) -> Tensor:
        """[..., P] → [..., E]."""
        out: Tensor = self.projection(pooled)
        return out


class Matryoshka(Head):
    """One projection P → E, or the identity, whose first d numbers are an embedding for each d of ``dims`` (MRL-E, Kusupati et al. 2022,
    section 3).

    The head only says which widths count; a loss with ``per_prefix`` trains each of them.
    """

    config: MatryoshkaConfig

    def __init__(self, config: MatryoshkaConfig, *, context: HeadContext) -> None:
        super().__init__(config, context=context)
        widest = config.dims[-1]
        self.projection = identity(context, widest) if config.identity else projection(context.dim, widest, config.bias)

    @property
    def prefixes(self) -> tuple[int, ...]:
        """The nested widths."""
        return tuple(self.config.dims)

    def forward(self, pooled: Tensor) -> Tensor:
        """[..., P] → [..., E]."""
        out: Tensor = self.projection(pooled)
        return out


def identity(context: HeadContext, dim: int) -> nn.Identity:
    """The trunk's vector as it is.

    Raises:
        UsageError: the head should give another width.
    """
    if dim != context.dim:
        raise UsageError(
            f"tower '{context.tower}': an identity head keeps the {context.dim} numbers of the trunk's vector, it cannot give {dim}: "
            "let its width be theirs, or leave identity out"
        )
    return nn.Identity()


def projection(before: int, after: int, bias: bool) -> nn.Linear:
    """A linear map that starts as the identity, cut or padded with zero rows.

    Towers that share table rows then start out comparable: a random projection each would hide what a history and an item share.
    """
    linear = nn.Linear(before, after, bias=bias)
    nn.init.eye_(linear.weight)
    if bias:
        nn.init.zeros_(linear.bias)
    return linear
