"""T-JEPA: predict, from some features of a row, how a slow copy of the model encodes others (Thimonier et al., ICLR 2025)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from embedkit.errors import UsageError
from embedkit.nn.block import Block
from embedkit.nn.compact import compact
from embedkit.nn.pooling import slots
from embedkit.nn.values import Tokens
from embedkit.training.loss import Forward, Loss, LossContext, LossResult, Needs, Step, zero
from embedkit_tabular.configs_ssl import TJepaConfig
from embedkit_tabular.masks import TARGET

_SMALLEST = 1e-3
"""Deviation below which a number of a target counts as constant: dividing by less would blow up rounding."""


class Predictor(nn.Module):
    """A narrow transformer: what the student made of its context, and a mask token for each feature that is asked for.

    A mask token says which feature is meant and nothing else. The trunk's own tokens (registers) take part, marked by one vector of their
    own. All targets of a batch go through in one call.

    Args:
        fields: of the tower; their positions are learned.
        dim: token width D.
        config: options.
    """

    def __init__(self, fields: tuple[str, ...], dim: int, config: TJepaConfig) -> None:
        super().__init__()
        width = config.width or max(1, dim // 2)
        if width % config.heads:
            raise UsageError(f"t_jepa: the predictor's {config.heads} heads do not divide its width {width}: change heads or width")
        self._place = {name: i for i, name in enumerate(fields)}
        self.enter = nn.Linear(dim, width)
        self.positions = nn.Parameter(torch.empty(len(fields) + 1, width).normal_(std=0.02))
        self.mask = nn.Parameter(torch.empty(width).normal_(std=0.02))
        hidden = config.hidden or 4 * width
        self.blocks = nn.ModuleList(Block(width, config.heads, hidden, config.dropout, config.layers) for _ in range(config.layers))
        self.norm = nn.LayerNorm(width)
        self.leave = nn.Linear(width, dim)

    def forward(self, context: Tokens, asked: Tensor) -> Tensor:
        """context [B, L, D], asked int64 [B, K, T] positions in ``fields`` → [B, K, T, D]."""
        rows, targets, _ = asked.shape
        x, pad = compact(self.enter(context.x.float()) + self._marks(context), context.pad)
        wanted = self.mask + F.embedding(asked, self.positions)
        x = torch.cat([x.unsqueeze(1).expand(-1, targets, -1, -1), wanted], 2).flatten(0, 1)
        mask = None
        if bool(pad.any()):
            seen = F.pad(~pad, (0, asked.shape[2]), value=True)
            mask = seen.repeat_interleave(targets, 0).unsqueeze(1).unsqueeze(1)
        for block in self.blocks:
            x = block(x, mask)
        found: Tensor = self.leave(self.norm(x[:, pad.shape[1] :]))
        return found.unflatten(0, (rows, targets))

    def _marks(self, context: Tokens) -> Tensor:
        """The position of each token, [L, P]; the trunk's own tokens share the last one."""
        spans = context.spans.items()
        places = [self._place.get(name, len(self._place)) for name, span in spans for _ in range(span.start, span.stop)]
        return self.positions.index_select(0, torch.tensor(places, device=context.x.device))


class TJepa(Loss):
    """``mean over rows, targets and their features of || g(f(x_context), position) - sg(f_teacher(x))[feature] ||^2``, over the width.

    The target is a slice of the teacher's encoding of the whole row, not an encoding of the target's features alone (Thimonier et al.
    2025, arXiv 2410.05016, section 4, and its code). Where a field has several tokens, their mean is the target.
    """

    config: TJepaConfig

    def __init__(self, config: TJepaConfig, *, context: LossContext) -> None:
        super().__init__(config, context=context)
        self._fields = context.schema.towers[config.tower].fields
        self._target = config.target or context.views[0]
        target = Forward(self._target, config.tower, config.network, tokens=True)
        self._needs = Needs((Forward(config.context, config.tower, tokens=True), target))
        self.predictor = Predictor(self._fields, context.token_dim, config)

    @property
    def needs(self) -> Needs:
        """The student on the context, the teacher on the whole row."""
        return self._needs

    @property
    def watch(self) -> tuple[Forward, ...]:
        """The teacher on whole rows: when it collapses, there is nothing left to predict."""
        return self._needs.forwards[1:]

    def forward(self, step: Step) -> LossResult:
        """The mean error.

        Raises:
            UsageError: the context view says no targets, or not equally many of each row.
        """
        context = step.run(self.config.context, self.config.tower).tokens
        whole = step.run(self._target, self.config.tower, self.config.network).tokens
        if context.x.shape[0] == 0:
            return LossResult(zero(context.x))
        asked = self._asked(step)
        wanted = self._wanted(whole, asked)
        found = self.predictor(context, asked)
        error = F.mse_loss if self.config.error == "mse" else F.smooth_l1_loss
        return LossResult(error(found, wanted))

    def _asked(self, step: Step) -> Tensor:
        """Positions of the targets' features in the tower, int64 [B, K, T]."""
        params = step.views[self.config.context].params
        place = [i for i, name in enumerate(self._fields) if TARGET + name in params]
        if not place:
            raise UsageError(f"t_jepa: view '{self.config.context}' says no targets: make it with the augmentation jepa_masks")
        targets = torch.stack([params[TARGET + self._fields[i]] for i in place], 2)
        count = targets.sum(2)
        size = int(count.max())
        if size == 0 or int(count.min()) != size:
            raise UsageError(
                f"t_jepa: the targets of view '{self.config.context}' have {int(count.min())} to {size} features, where every target of a "
                "batch must have equally many, at least one"
            )
        which = targets.flatten(0, 1).nonzero()[:, 1].view(*targets.shape[:2], size)
        return torch.tensor(place, device=which.device).take(which)

    @torch.no_grad()
    def _wanted(self, whole: Tokens, asked: Tensor) -> Tensor:
        """The teacher's vectors of the features asked for, float32 [B, K, T, D]."""
        x = slots(whole, self._fields).float()
        if self.config.normalize == "token":
            x = F.layer_norm(x, x.shape[-1:])
        elif self.config.normalize == "batch":
            deviation, mean = torch.std_mean(x, 0, correction=0)
            x = (x - mean) / deviation.clamp(min=_SMALLEST)
        rows, fields, _ = x.shape
        flat = asked + torch.arange(rows, device=x.device).view(-1, 1, 1) * fields
        return F.embedding(flat, x.flatten(0, 1))
