"""The ``train`` stage: hands its options to the core's loop."""

from __future__ import annotations

from embedkit.config.model import TrainConfig
from embedkit.training.loop import train
from embedkit.training.session import Session
from embedkit.training.stages import Stage, StageContext, StageResult


class TrainStage(Stage):
    """Minimises weighted losses over named streams of batches."""

    config: TrainConfig
    parallel = True

    def run(self, context: StageContext) -> StageResult:
        """Train the context's model in place; on resume, from the newest checkpoint of this stage."""
        with Session.open(self.config, context) as session:
            return train(session)
