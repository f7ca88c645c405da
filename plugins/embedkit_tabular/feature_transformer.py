"""FeatureTransformer: a row as a set of feature tokens, with registers, read by a pre-norm transformer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from embedkit.errors import UsageError
from embedkit.nn.block import Block
from embedkit.nn.compact import compact, spread
from embedkit.nn.pooling import masked_mean, slots, without_empty
from embedkit.nn.trunk import Trunk, TrunkContext
from embedkit.nn.values import Tokens
from embedkit_tabular.configs import FeatureTransformerConfig

REGISTERS = "[reg]"
"""Span of the registers, before all fields. No mask can name it: masks name columns of a batch, and no field is called so."""


class FeatureTransformer(Trunk):
    """Attention over one token a feature (FT-Transformer, Gorishniy et al. 2021, arXiv 2106.11959, section 3.3) and some registers.

    A token gets a vector of its field, which is its position, and one of its field's type (T-JEPA, Thimonier et al. 2025,
    arXiv 2410.05016, section 4). Registers are learned tokens that are in every row, never hidden, and no feature: T-JEPA's [REG]. They are
    the first tokens of the output, under the span ``REGISTERS``.

    Tokens that a view drops are left out of the attention and cost nothing. A field of several tokens has no order here.
    """

    config: FeatureTransformerConfig

    def __init__(self, config: FeatureTransformerConfig, *, context: TrunkContext) -> None:
        super().__init__(config, context=context)
        dim = context.dim
        if dim % config.heads:
            raise UsageError(f"tower '{context.tower}': feature_transformer's {config.heads} heads do not divide the model's dim {dim}")
        self._names = [spec.name for spec in context.fields]
        if REGISTERS in self._names:
            raise UsageError(f"tower '{context.tower}': feature_transformer keeps the name '{REGISTERS}' for itself; rename the field")
        types = list(dict.fromkeys(spec.type for spec in context.fields))
        self._place = {spec.name: (i, types.index(spec.type)) for i, spec in enumerate(context.fields)}
        self.num_layers = config.layers
        self.fields = nn.Parameter(torch.empty(len(context.fields), dim).normal_(std=config.init_std))
        self.types = nn.Parameter(torch.empty(len(types), dim).normal_(std=config.init_std))
        self.registers: nn.Parameter | None = None
        if config.registers:
            self.registers = nn.Parameter(torch.empty(config.registers, dim).normal_(std=config.init_std))
        hidden = config.hidden or 4 * dim
        self.blocks = nn.ModuleList(Block(dim, config.heads, hidden, config.dropout, config.layers) for _ in range(config.layers))
        self.norm = nn.LayerNorm(dim)

    @property
    def pooled_dim(self) -> int:
        """All fields' widths together when they are laid side by side."""
        return self.context.dim * (len(self._names) if self.config.pooling == "flatten" else 1)

    def forward(
        self, tokens: Tokens, *, window: str | None = None, layers: tuple[int, ...] = ()
    ) -> tuple[Tokens, Tensor, dict[int, Tensor]]:
        """See ``Trunk.forward``."""
        x, pad = compact(tokens.x + self._marks(tokens), tokens.pad)
        if self.registers is not None:
            x = torch.cat([self.registers.to(x.dtype).expand(x.shape[0], -1, -1), x], 1)
        mask = _seen(torch.cat([pad.new_zeros(pad.shape[0], self.config.registers), pad], 1))
        states: dict[int, Tensor] = {}
        for depth, block in enumerate(self.blocks, 1):
            x = block(x, mask)
            if depth in layers:
                states[depth] = self._spread(x, tokens.pad)
        out = self._tokens(self._spread(x, tokens.pad), tokens)
        return out, without_empty(self._pooled(out, tokens), tokens.pad), states

    def _marks(self, tokens: Tokens) -> Tensor:
        """What tells a token's field and type, [L, D]."""
        spans = tokens.spans.items()
        places = torch.tensor([self._place[name] for name, span in spans for _ in range(span.start, span.stop)], device=tokens.x.device)
        return self.fields.index_select(0, places[:, 0]) + self.types.index_select(0, places[:, 1])

    def _spread(self, x: Tensor, pad: Tensor) -> Tensor:
        """States at the final norm, registers first, the features where they were: [B, R + L, D]."""
        x, own = self.norm(x), self.config.registers
        return torch.cat([x[:, :own], spread(x[:, own:], pad)], 1)

    def _tokens(self, x: Tensor, tokens: Tokens) -> Tokens:
        own = self.config.registers
        nothing = tokens.pad.new_zeros(tokens.pad.shape[0], own)
        spans = {REGISTERS: slice(0, own)} if own else {}
        spans |= {name: slice(span.start + own, span.stop + own) for name, span in tokens.spans.items()}
        return Tokens(x, torch.cat([nothing, tokens.pad], 1), torch.cat([nothing, tokens.hidden], 1), spans)

    def _pooled(self, out: Tokens, tokens: Tokens) -> Tensor:
        if self.config.pooling == "register":
            return out.x[:, 0]
        own = self.config.registers
        features = Tokens(out.x[:, own:], tokens.pad, tokens.hidden, tokens.spans)
        return masked_mean(features.x, features.pad) if self.config.pooling == "mean" else slots(features, self._names).flatten(1)


def _seen(pad: Tensor) -> Tensor | None:
    """Which tokens may be looked at, bool [B, 1, 1, L]; None for all. A row of padding looks at itself: softmax over nothing is NaN."""
    if not bool(pad.any()):
        return None
    return (~pad | pad.all(1, keepdim=True)).unsqueeze(1).unsqueeze(1)
