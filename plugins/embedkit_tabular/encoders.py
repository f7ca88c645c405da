"""Encoders of numbers and timestamps: dense columns, one token each."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from embedkit.data.columns import Column
from embedkit.nn.encoder import Encoder, EncoderContext
from embedkit.nn.named import Named
from embedkit.schema import FieldSpec
from embedkit_tabular.configs import NumberEncoderConfig, TimestampEncoderConfig


class PiecewiseLinear(nn.Module):
    """Piecewise-linear encoding of a number [Gorishniy et al., NeurIPS 2022, arXiv 2203.05556, section 3.2; from memory].

    With edges b_0 < … < b_n, bin t holds ``(x - b_{t-1}) / (b_t - b_{t-1})``, cut at 0 from below and at 1 from above; the first bin is
    not cut from below nor the last from above, so values outside the train range go on linearly.

    Args:
        edges: float32 [n + 1], ascending and distinct, n at least 1.
    """

    edges: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, edges: Tensor) -> None:
        super().__init__()
        edges = edges.float()
        low, high = torch.zeros(edges.shape[0] - 1), torch.ones(edges.shape[0] - 1)
        low[0], high[-1] = -math.inf, math.inf
        self.register_buffer("edges", edges)
        self.register_buffer("low", low, persistent=False)
        self.register_buffer("high", high, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, 1] → [B, n]."""
        share = (x - self.edges[:-1]) / (self.edges[1:] - self.edges[:-1])
        return share.clamp(self.low, self.high)


class Periodic(nn.Module):
    """Sines and cosines of numbers at learned frequencies [Gorishniy et al. 2022, section 3.3]: ``sin(2 pi c x), cos(2 pi c x)``.

    Args:
        width: numbers a row W.
        frequencies: of each number, k.
        sigma: standard deviation of the frequencies at the start.
    """

    def __init__(self, width: int, frequencies: int, sigma: float) -> None:
        super().__init__()
        self.frequency = nn.Parameter(torch.empty(width, frequencies).normal_(std=sigma))

    def forward(self, x: Tensor) -> Tensor:
        """[B, W] → [B, W * 2k]."""
        angle = 2 * math.pi * x.unsqueeze(2) * self.frequency
        return torch.cat([angle.sin(), angle.cos()], 2).flatten(1)


class NumberEncoder(Encoder):
    """A number → one token."""

    accepts = NumberEncoderConfig.accepts
    config: NumberEncoderConfig

    def __init__(self, config: NumberEncoderConfig, *, context: EncoderContext) -> None:
        super().__init__(config, context=context)
        self.bins: Named[nn.Module] = Named()
        self.linear: Named[nn.Linear] = Named()
        for spec in context.fields:
            self.bins[spec.name], width = self._spread(spec)
            self.linear[spec.name] = _linear(width, context.dim)

    def embed(self, spec: FieldSpec, column: Column) -> tuple[Tensor, Tensor | None]:
        """See ``Encoder.embed``."""
        x = self.linear[spec.name](self.bins[spec.name](_flat(column)))
        return (x.relu() if self.config.kind == "periodic" else x).unsqueeze(1), None

    def _spread(self, spec: FieldSpec) -> tuple[nn.Module, int]:
        """What makes a field's numbers into the inputs of its linear map, and how many those are."""
        width = self.context.stats[spec.name].width
        if self.config.kind == "periodic":
            return Periodic(width, self.config.frequencies, self.config.sigma), 2 * width * self.config.frequencies
        edges = self._edges(spec)
        return (nn.Identity(), width) if edges is None else (PiecewiseLinear(edges), edges.shape[0] - 1)

    def _edges(self, spec: FieldSpec) -> Tensor | None:
        """Bin edges, evenly many train values between each two; None where a line must do: one value only, or several numbers a row."""
        stats = self.context.stats[spec.name]
        if self.config.kind == "linear" or stats.quantiles is None or stats.quantiles.shape[0] < 2 or stats.width != 1:
            return None
        quantiles = stats.quantiles
        count = min(self.config.bins, quantiles.shape[0] - 1)
        return quantiles.index_select(0, torch.linspace(0, quantiles.shape[0] - 1, count + 1).round().long())


class TimestampEncoder(Encoder):
    """The numbers that its field type makes of a moment, [B, C] → one token, linearly."""

    accepts = TimestampEncoderConfig.accepts
    config: TimestampEncoderConfig

    def __init__(self, config: TimestampEncoderConfig, *, context: EncoderContext) -> None:
        super().__init__(config, context=context)
        self.linear: Named[nn.Linear] = Named()
        for spec in context.fields:
            self.linear[spec.name] = _linear(context.stats[spec.name].width, context.dim)

    def embed(self, spec: FieldSpec, column: Column) -> tuple[Tensor, Tensor | None]:
        """See ``Encoder.embed``."""
        return self.linear[spec.name](_flat(column)).unsqueeze(1), None


def _flat(column: Column) -> Tensor:
    """float32 [B, numbers a row]."""
    values = column.values.float()
    return values.unsqueeze(1) if values.dim() == 1 else values.flatten(1)


def _linear(width: int, dim: int) -> nn.Linear:
    """A linear map whose outputs start about as large as the rows of embedding tables, so that no field drowns the others."""
    linear = nn.Linear(width, dim)
    nn.init.normal_(linear.weight, std=0.05 / math.sqrt(width))
    nn.init.zeros_(linear.bias)
    return linear
