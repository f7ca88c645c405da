"""The ``snapshot`` stage: the model between two stages as a bundle of its own."""

from __future__ import annotations

import torch

from embedkit.bundle import save_bundle
from embedkit.nn.model import Model
from embedkit.training.compute import derive_seed, seeded
from embedkit.training.stages import Stage, StageContext, StageResult
from embedkit_clustering.configs import SnapshotConfig


class SnapshotStage(Stage):
    """Writes ``snapshots/<stage>`` into the run's folder, a bundle like the run's own.

    With ``restart`` the stages that follow train a model of their own from new weights: the stages of multistage contrastive learning,
    whose embeddings are read side by side (``embedkit.api.concatenate``).
    """

    config: SnapshotConfig

    def run(self, context: StageContext) -> StageResult:
        """Save; then draw the weights anew, if asked to."""
        path = context.folder.path / "snapshots" / context.name
        path.parent.mkdir(exist_ok=True)
        model, training = context.model, context.model.training
        model.eval()
        try:
            save_bundle(path, model=model, codecs=context.store.codecs, plan=context.plan, metrics={}, training={"stage": context.name})
        finally:
            model.train(training)
        context.log(f"{context.name}: kept as {path.relative_to(context.folder.path)}")
        if self.config.restart:
            self._restart(context)
        return StageResult(tables={"bundle": path})

    @staticmethod
    @torch.no_grad()
    def _restart(context: StageContext) -> None:
        with seeded(derive_seed(context.seed, "weights")):
            fresh = Model(context.plan.model, context.store.codecs.stats)
        context.model.load_state_dict(fresh.state_dict())
