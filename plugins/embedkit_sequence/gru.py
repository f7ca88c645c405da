"""Gru: a recurrent trunk (GRU4Rec, Hidasi et al. 2016, arXiv 1511.06939)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from embedkit.errors import UsageError
from embedkit.nn.pooling import masked_mean, ordered_fields, without_empty
from embedkit.nn.trunk import Trunk, TrunkContext
from embedkit.nn.values import Tokens
from embedkit_sequence.configs import GruConfig


class Gru(Trunk):
    """Gated recurrent units over the tower's first sequence; what is known besides (the mean of the other tokens) starts the state.

    A row is read at the state after its last value, a window at every state. Tokens of the sequence become its states; the others stay.
    Inputs are scaled as a transformer's are, since table rows start far smaller than what a gate tells apart.
    """

    windows = True
    config: GruConfig

    def __init__(self, config: GruConfig, *, context: TrunkContext) -> None:
        super().__init__(config, context=context)
        ordered = ordered_fields(context.fields)
        sequences = [spec.name for spec in context.fields if spec.name in ordered]
        if not sequences:
            raise UsageError(f"tower '{context.tower}': gru reads a sequence, and the tower has no field of type sequence; use mlp")
        self._read = sequences[0]
        width = config.hidden or context.dim
        self.dropout = nn.Dropout(config.dropout)
        between = config.dropout if config.layers > 1 else 0.0
        self.gru = nn.GRU(context.dim, width, config.layers, batch_first=True, dropout=between)
        self.start = nn.Linear(context.dim, width) if len(context.fields) > 1 else None
        self.out = nn.Linear(width, context.dim)

    def forward(
        self, tokens: Tokens, *, window: str | None = None, layers: tuple[int, ...] = ()
    ) -> tuple[Tokens, Tensor, dict[int, Tensor]]:
        """See ``Trunk.forward``.

        Raises:
            UsageError: the window field is not the tower's first sequence.
        """
        if window is not None and window != self._read:
            raise UsageError(f"tower '{self.context.tower}': name '{window}' before its other sequences, for rows are read from the first")
        start = self._start(tokens)
        span = tokens.spans.get(self._read)
        if span is None:  # a view without the sequence: the state is where it starts
            assert start is not None
            return tokens, without_empty(self.out(start), tokens.pad), {}
        pad = tokens.pad[:, span]
        states = self.out(self._states(tokens.x[:, span].masked_fill(pad.unsqueeze(-1), 0.0), start))
        if window is not None:
            pooled = states
        else:  # where a row has no value: the state of its first, padded place
            last = (~pad).sum(1).clamp(min=1) - 1
            pooled = states.gather(1, last.view(-1, 1, 1).expand(-1, 1, states.shape[2])).squeeze(1)
        x = torch.cat([tokens.x[:, : span.start], states.to(tokens.x.dtype), tokens.x[:, span.stop :]], 1)
        return Tokens(x, tokens.pad, tokens.hidden, tokens.spans), without_empty(pooled, tokens.pad), {}

    def _start(self, tokens: Tokens) -> Tensor | None:
        """What is known besides the sequence, as a state [B, width]; None for a tower that has nothing else."""
        if self.start is None:
            return None
        rest = torch.ones(tokens.x.shape[1], dtype=torch.bool, device=tokens.x.device)
        rest[tokens.spans.get(self._read, slice(0, 0))] = False
        found: Tensor = self.start(masked_mean(tokens.x, tokens.pad | ~rest)).tanh()
        return found

    def _states(self, x: Tensor, start: Tensor | None) -> Tensor:
        """The state after each value, [B, L, width]; padding comes last, so no state of a value has seen it."""
        x = self.dropout(x * math.sqrt(self.context.dim))
        first = None if start is None else start.float().expand(self.config.layers, -1, -1).contiguous()
        with torch.autocast(x.device.type, enabled=False):  # in half precision the state of a long history drifts
            found: Tensor = self.gru(x.float(), first)[0]
        return found
