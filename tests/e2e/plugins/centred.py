"""A one-file plugin: a loss that keeps the mean of a tower's embeddings near the origin, so that they use all directions."""

import torch

from embedkit import hookimpl
from embedkit.component import Config
from embedkit.training.loss import Forward, Loss, LossResult, Needs, zero


class CentredConfig(Config):
    """Its options in the run file; the sentence after each is its help."""

    tower: str
    """Tower whose embeddings are centred."""
    view: str = "main"
    """Stream or view that is looked at."""


class Centred(Loss):
    """The squared length of the batch's mean embedding."""

    @property
    def needs(self) -> Needs:
        """The forwards it will pull: planned once, so that losses share them."""
        return Needs((Forward(self.config.view, self.config.tower),))

    def forward(self, step) -> LossResult:
        """[B, E] → a scalar."""
        embedding: torch.Tensor = step.run(self.config.view, self.config.tower).embedding
        if len(embedding) == 0:
            return LossResult(zero(embedding))
        return LossResult(embedding.float().mean(0).square().sum())


@hookimpl
def register_losses(register):
    """Names it: ``use = "centred"``."""
    register("centred", Centred, config=CentredConfig, summary="Keep the mean embedding near the origin.")
