"""Transformer: a pre-norm transformer over all tokens of a tower."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from embedkit.errors import DataError, UsageError
from embedkit.nn.block import Block, Rotary
from embedkit.nn.named import Named
from embedkit.nn.pooling import masked_mean, ordered_fields, running_mean, without_empty
from embedkit.nn.trunk import Trunk, TrunkContext
from embedkit.nn.values import Tokens
from embedkit_sequence.configs import TransformerConfig


class Transformer(Trunk):
    """A transformer over the tokens of all fields, each marked by its field and, in fields of several tokens, its position.

    Positions are learned, or the values of sequences are turned by them (rotary). Causal: they count from the start of what the row holds
    (a window, or the last values of a longer history), so a position means the same in training windows and in rows that are embedded
    later. Else they count from its end, so that the last value, or a hidden one behind it, has the same position in rows of any length.

    Causal: tokens of sequence fields see those of sequence fields up to their own position, and every token of the other fields; the
    others see only each other, since what they saw of a later value would otherwise reach an earlier one in the next layer.

    Layers are token states brought to the final norm, so that the last depth equals the tokens returned.
    """

    config: TransformerConfig

    def __init__(self, config: TransformerConfig, *, context: TrunkContext) -> None:
        super().__init__(config, context=context)
        dim = context.dim
        if dim % config.heads:
            raise UsageError(f"tower '{context.tower}': transformer's {config.heads} heads do not divide the model's dim {dim}")
        if config.positions == "rotary" and dim // config.heads % 2:
            raise UsageError(
                f"tower '{context.tower}': rotary positions turn pairs of numbers, and a head has {dim // config.heads}: "
                "choose dim and heads so that dim / heads is even"
            )
        self.windows = config.causal and config.pooling != "query"
        self.sequences = config.pooling == "last"
        self.num_layers = config.layers
        self._ordered = ordered_fields(context.fields)
        self._read = next((spec.name for spec in context.fields if spec.name in self._ordered), None)
        self._field = {spec.name: i for i, spec in enumerate(context.fields)}
        self.fields = nn.Parameter(torch.empty(len(context.fields), dim).normal_(std=0.02))
        self.positions: Named[nn.Embedding] = Named()
        for spec in context.fields:
            length = context.max_lengths.get(spec.name, 1)
            if config.positions == "rotary" and spec.name in self._ordered:
                continue
            if length > 1 or spec.name in self._ordered:
                self.positions[spec.name] = nn.Embedding(config.max_length or length, dim)
                # What stands where is all that tells two hidden values apart, so there positions start as large as scaled tokens; in a
                # causal trunk, where the last value says most, that slows the start.
                std = 0.02 if config.causal else 0.05 * math.sqrt(dim)
                nn.init.normal_(self.positions[spec.name].weight, std=std)
        hidden = config.hidden or 4 * dim
        self.blocks = nn.ModuleList(Block(dim, config.heads, hidden, config.dropout, config.layers) for _ in range(config.layers))
        self.norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(config.dropout)
        self.query = nn.Linear(dim, 1, bias=False) if config.pooling == "query" else None

    def forward(
        self, tokens: Tokens, *, window: str | None = None, layers: tuple[int, ...] = ()
    ) -> tuple[Tokens, Tensor, dict[int, Tensor]]:
        """See ``Trunk.forward``.

        Raises:
            DataError: a field has more tokens than the positions it was built with.
            UsageError: the window field is not the tower's first sequence, which rows are read from.
        """
        if window is not None and window != self._read:
            raise UsageError(f"tower '{self.context.tower}': name '{window}' before its other sequences, for rows are read from the first")
        mask, causal = self._mask(tokens)
        turn = self._turn(tokens)
        x = self.dropout(self._located(tokens))
        states: dict[int, Tensor] = {}
        for depth, block in enumerate(self.blocks, 1):
            x = block(x, mask, causal, turn)
            if depth in layers:
                states[depth] = self.norm(x)
        out = replace(tokens, x=self.norm(x))
        return out, without_empty(self._pooled(out, window), tokens.pad), states

    def _located(self, tokens: Tokens) -> Tensor:
        """Token vectors, scaled as in Vaswani et al. 2017 (section 3.4), with their field's vector and their position's."""
        marks: list[Tensor] = []
        for name, span in tokens.spans.items():
            length = span.stop - span.start
            mark = self.fields[self._field[name]].expand(length, -1)
            if name in self.positions:
                known = self.positions[name].weight
                if length > known.shape[0]:
                    raise DataError(
                        f"field '{name}' has a row of {length} values, tower '{self.context.tower}' knows {known.shape[0]} positions: "
                        "shorten the row, or train with a larger max_length"
                    )
                mark = mark + (self._from_end(tokens.pad[:, span], known) if self._backwards(name) else known[:length])
            marks.append(mark.expand(tokens.x.shape[0], -1, -1))
        return tokens.x * math.sqrt(self.context.dim) + torch.cat(marks, 1)

    def _backwards(self, name: str) -> bool:
        return not self.config.causal and name in self._ordered

    @staticmethod
    def _from_end(pad: Tensor, known: Tensor) -> Tensor:
        """Vectors of positions that count from each row's last value, [B, L, D]; pad bool [B, L]."""
        place = (~pad).sum(1, keepdim=True) - 1 - torch.arange(pad.shape[1], device=pad.device)
        return F.embedding(place.clamp(min=0), known)

    def _mask(self, tokens: Tokens) -> tuple[Tensor | None, bool]:
        """What may see what: bool [B, 1, L, L] and False, or None and True where a plain causal mask says it all."""
        if self.config.causal and len(tokens.spans) == 1 and self._read in tokens.spans:
            return None, True  # padding comes last, so no token sees it
        allowed = ~tokens.pad.unsqueeze(1)
        if self.config.causal:
            moment = self._moments(tokens)
            allowed = allowed & (moment.unsqueeze(0) <= moment.unsqueeze(1))
        # Every token sees itself, padding too: a softmax over nothing would be NaN.
        return (allowed | torch.eye(tokens.x.shape[1], dtype=torch.bool, device=tokens.x.device)).unsqueeze(1), False

    def _moments(self, tokens: Tokens) -> Tensor:
        """The place of each token in its sequence, int64 [L]; -1 for tokens of other fields."""
        moment = torch.full((tokens.x.shape[1],), -1, device=tokens.x.device)
        for name in self._ordered.intersection(tokens.spans):
            span = tokens.spans[name]
            moment[span] = torch.arange(span.stop - span.start, device=moment.device)
        return moment

    def _turn(self, tokens: Tokens) -> Rotary | None:
        return Rotary(self._moments(tokens), self.context.dim // self.config.heads) if self.config.positions == "rotary" else None

    def _pooled(self, tokens: Tokens, window: str | None) -> Tensor:
        if self.query is not None:
            scores = self.query(tokens.x).float().masked_fill(tokens.pad.unsqueeze(-1), torch.finfo(torch.float32).min)
            pooled: Tensor = (scores.softmax(1) * tokens.x).sum(1)
            return pooled
        if self.config.pooling == "mean":
            return masked_mean(tokens.x, tokens.pad) if window is None else running_mean(tokens, window, self._ordered)
        return self._last(tokens) if window is None else tokens.x[:, tokens.spans[window]]

    def _last(self, tokens: Tokens) -> Tensor:
        """The state of each row's last token of the field that is read; of its last token at all where that field gives none."""
        rank = torch.arange(1, tokens.x.shape[1] + 1, device=tokens.x.device)
        if self._read is not None and self._read in tokens.spans:
            rank[tokens.spans[self._read]] += tokens.x.shape[1]
        last = rank.masked_fill(tokens.pad, 0).argmax(1)
        return tokens.x.gather(1, last.view(-1, 1, 1).expand(-1, 1, tokens.x.shape[2])).squeeze(1)
