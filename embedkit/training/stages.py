"""Stage: one step of a run. Stages meet on disk only, so each boundary can be resumed from."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from embedkit.component import Component

if TYPE_CHECKING:
    from embedkit.config.plan import Plan
    from embedkit.data.store import Store
    from embedkit.host import Host
    from embedkit.nn.model import Model
    from embedkit.runs import RunFolder

Onlooker = Callable[[int, Mapping[str, Any]], None]
"""Takes a stage's index and the record of a validation; what it raises ends the run."""


@dataclass(frozen=True, eq=False)
class StageContext:
    """What a stage is given.

    Attributes:
        plan: the resolved run.
        host: plugins: the registry, and whom to announce moments to.
        store: the opened tables with fitted codecs.
        model: the model as the stage before left it, on ``device``; the stage changes it in place.
        folder: the run's folder.
        index: the stage's place in the run, from 0.
        name: the stage's name.
        seed: of everything random in this stage.
        device: where the model is.
        resume: continue from the newest checkpoint in ``checkpoints``, if there is one.
        log: takes one line for people.
        tables: name of an earlier stage → the tables that it left.
        onlooker: called at every validation, if anybody looks on.
    """

    plan: Plan
    host: Host
    store: Store
    model: Model
    folder: RunFolder
    index: int
    name: str
    seed: int
    device: torch.device
    resume: bool
    log: Callable[[str], Any]
    tables: Mapping[str, Mapping[str, Path]] = field(default_factory=dict)
    onlooker: Onlooker | None = None

    @property
    def checkpoints(self) -> Path:
        """Folder of this stage's checkpoints."""
        return self.folder.checkpoints / f"stage-{self.index}"


@dataclass(frozen=True)
class StageResult:
    """What a stage leaves behind.

    Attributes:
        metrics: figures such as the last loss, by name.
        tables: name → Parquet file keyed by row id, for later stages.
        steps: optimiser steps done.
    """

    metrics: Mapping[str, float] = field(default_factory=dict)
    tables: Mapping[str, Path] = field(default_factory=dict)
    steps: int = 0


class Stage(Component):
    """Base of stages. ``config`` is its options, ``context`` of the constructor is None; ``run`` gets the ``StageContext``."""

    parallel: bool = False
    """Whether all processes of a run that ``torchrun`` started run it; else the first one does, and the others take its weights."""

    @abstractmethod
    def run(self, context: StageContext) -> StageResult:
        """Do the stage's work; the model is changed in place, everything else goes to disk.

        Raises:
            KeyboardInterrupt: it was asked to stop, and has written what a resume needs.
        """
