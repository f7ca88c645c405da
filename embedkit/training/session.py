"""Session: everything that one train stage holds, and its state."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any

import torch

from embedkit.config.model import TrainConfig
from embedkit.data.batch import Batch
from embedkit.errors import DataError
from embedkit.nn.gather import rank, world
from embedkit.pace import TimeLeft
from embedkit.training import memory
from embedkit.training.average import Average
from embedkit.training.build import build_losses, build_views, stream_fields, stream_groups
from embedkit.training.checkpoint import Checkpoints, collect_states, read_state
from embedkit.training.compute import autocast_type, compile_layers, derive_seed, facts, global_state, load_global_state, seed_all
from embedkit.training.distributed import first
from embedkit.training.meter import Meter
from embedkit.training.networks import Networks
from embedkit.training.optimize import Optimizers, trained
from embedkit.training.pieces import refuse_batch_statistics
from embedkit.training.report import MetricsFile, RunLog, make_progress
from embedkit.training.schedule import Clock
from embedkit.training.step import StepModule
from embedkit.training.validate import Stopper, check_metric
from embedkit.training.watch import Watch
from embedkit.views import Random, View

if TYPE_CHECKING:
    from embedkit.nn.model import Model
    from embedkit.training.stages import StageContext

CHECKPOINT_SECONDS = 60.0


class Session:
    """One train stage: built from its options, put where its newest checkpoint was when the run is resumed.

    Attributes:
        step: optimiser steps done.
        total: optimiser steps of the stage.
        epoch_steps: steps of one pass over the first stream.
    """

    def __init__(self, config: TrainConfig, context: StageContext) -> None:
        from embedkit.data.loader import make_loader

        self.config, self.context = config, context
        where = f"stages.{context.index}"
        check_metric(config, context, where=where)
        seed_all(derive_seed(context.seed, "global"))
        losses = build_losses(config, context, where=where)
        self.fields = stream_fields(config, losses, context)
        self.make_views = build_views(config, self.fields, context, where=where)
        self.networks = Networks(config.networks, context)
        compute = context.plan.config.compute
        if config.forward_rows is not None:
            refuse_batch_statistics(context.model, where=where)
        self.module = StepModule(context.model, losses, self.networks.models, autocast_type(compute), config.forward_rows).to(
            context.device
        )
        if compute.compile:
            count = compile_layers(self.module)
            some = f"the first steps wait while {count} layers are compiled"
            told = some if count else "no part of this run is a layer that can be compiled"
            context.log(f"{context.name}: compute.compile: {told}")
        self.parameters = trained({"": context.model, "losses.": self.module.losses}, config.freeze, where=where)
        self.optimizers = Optimizers(
            self.parameters,
            context.model.table_parameters(),
            sparse=context.model.sparse,
            config=config,
            registry=context.host.registry,
            where=where,
        )
        self.average = Average(config.average, self.parameters)
        self.groups = stream_groups(config, context, where=where)
        self.loaders = {
            name: make_loader(
                context.store,
                name,
                stream,
                context.host.registry,
                derive_seed(context.seed, "stream", name),
                self.fields[name],
                rank=rank(),
                world=world(),
                pin=context.device.type == "cuda",
                stage=where,
                groups=self.groups.get(name),
            )
            for name, stream in config.streams.items()
        }
        for name, loader in self.loaders.items():
            for remark in loader.remarks():
                context.log(f"{context.name}: stream '{name}': {remark}")
        self.random = Random(
            torch.Generator().manual_seed(derive_seed(context.seed, "shared")),
            torch.Generator().manual_seed(derive_seed(context.seed, "local", rank())),
        )
        if rank() > 0:  # the weights of losses are drawn by now, the same everywhere; dropout is each process's own
            seed_all(derive_seed(context.seed, "global", rank()))
        self.epoch_steps = next(iter(self.loaders.values())).batches_per_epoch
        self.total = config.steps or max(1, math.ceil((config.epochs or 0.0) * self.epoch_steps))
        self.step = 0
        self.meter = Meter()
        self.watch = Watch(losses)
        self.stopper = None if config.validate_ is None else Stopper(config.validate_)
        self.checkpoints = Checkpoints(context.checkpoints)
        self.metrics = MetricsFile(context.folder.metrics)
        self.facts = facts(context.device, context.store.data_path) | {
            "rows": {name: table.rows for name, table in context.store.tables.items()}
        }
        self._iterators: dict[str, Iterator[Batch]] = {}
        self._saved_at = time.monotonic()

    @classmethod
    def open(cls, config: TrainConfig, context: StageContext) -> Session:
        """Build the stage; continue from its newest checkpoint when the run is resumed, else start clean."""
        session = cls(config, context)
        newest = session.checkpoints.newest() if context.resume else None
        if newest is None and first():
            session.checkpoints.clear()
            session.metrics.cut_stage(context.name)
        elif newest is not None:
            session.load_state_dict(read_state(newest))
            context.log(f"{context.name}: continuing from step {session.step}")
        return session

    def __enter__(self) -> Session:
        context = self.context
        store = context.store
        held = [column for table in store.tables if not store.streamed(table) for column in store.columns(table).values()]
        data = sum(column.nbytes() for column in held)
        parts = memory.estimate(self.module, context.model.table_parameters(), self.optimizers, data, self.average.nbytes)
        context.log(memory.text(parts, context.device))
        keep = RunLog(context.folder.log, context.log).keep
        self.progress = make_progress(context.log, keep, context.name, self.total, self.step, quiet=not first())
        self.time_left = TimeLeft(self.step, self.total)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.progress.close()
        for iterator in self._iterators.values():
            close = getattr(iterator, "close", None)
            if close is not None:
                close()

    # ------------------------------------------------------------------ a step

    def next_views(self) -> tuple[dict[str, View], int]:
        """The views of the next step, and the rows of the first stream's batch."""
        streams: dict[str, View] = {}
        for name, loader in self.loaders.items():
            iterator = self._iterators.get(name)
            if iterator is None:
                iterator = self._iterators[name] = iter(loader)
            streams[name] = View(next(iterator).to(self.context.device, non_blocking=True))
        first = next(iter(streams.values())).batch
        rows = len(next(iter(first.columns.values())))
        return self.make_views(streams, self.random), rows

    @property
    def kept(self) -> Model:
        """What the stage leaves and validation looks at: the student, or the average that the run file keeps."""
        return self.context.model if self.networks.kept is None else self.networks.kept

    @property
    def clock(self) -> Clock:
        """Where the stage is."""
        return Clock(self.step, self.total)

    @property
    def epoch(self) -> float:
        """Passes over the first stream so far."""
        return self.step / self.epoch_steps

    def due(self, every: int | str) -> bool:
        """Whether something that happens every so many steps (or every ``epoch``), and at the end, is due after this step."""
        steps = self.epoch_steps if isinstance(every, str) else every
        return self.step % steps == 0 or self.step == self.total

    # ------------------------------------------------------------------ state

    def checkpoint_due(self) -> bool:
        """Whether it is time to write a checkpoint: as the run file says, else about once a minute."""
        if self.config.checkpoint_every is not None:
            return self.step % self.config.checkpoint_every == 0
        return time.monotonic() - self._saved_at >= CHECKPOINT_SECONDS

    def save(self) -> None:
        """Write a checkpoint; with several processes the first one does, for all of them."""
        with self.meter.paused():
            best = None if self.stopper is None else self.stopper.best_step
            state = self.state_dict()
            if first():
                self.checkpoints.save(self.step, state, best)
        self._saved_at = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        """All that the next steps depend on."""
        return {
            "step": self.step,
            "facts": self.facts,
            "model": self.context.model.state_dict(),
            "losses": self.module.losses.state_dict(),
            "networks": self.networks.state_dict(),
            "average": self.average.state_dict(),
            "optimizers": self.optimizers.state_dict(),
            "loaders": {name: loader.state_dict() for name, loader in self.loaders.items()},
            "random": {"shared": self.random.shared.get_state(), "own": collect_states(self._own_random())},
            "meter": self.meter.state_dict(),
            "watch": self.watch.state_dict(),
            "stopper": None if self.stopper is None else self.stopper.state_dict(),
            "metrics": self.metrics.size,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take what ``state_dict`` returned.

        Raises:
            DataError: the tables have other numbers of rows than when the run began.
        """
        self._compare(state["facts"])
        self.step = state["step"]
        self.context.model.load_state_dict(state["model"])
        self.module.losses.load_state_dict(state["losses"])
        self.networks.load_state_dict(state["networks"])
        self.average.load_state_dict(state["average"])
        self.optimizers.load_state_dict(state["optimizers"])
        for name, loader in self.loaders.items():
            loader.load_state_dict(state["loaders"][name])
        self.random.shared.set_state(state["random"]["shared"])
        own = state["random"]["own"]
        if len(own) == world():  # else the new processes go on with generators of their own
            self.random.local.set_state(own[rank()]["local"])
            load_global_state(own[rank()]["global"])
        self.meter.load_state_dict(state["meter"], self.context.device)
        self.watch.load_state_dict(state["watch"])
        if self.stopper is not None and state["stopper"] is not None:
            self.stopper.load_state_dict(state["stopper"])
        if first():
            self.metrics.cut(state["metrics"])

    def _own_random(self) -> dict[str, Any]:
        """State of the generators that differ between processes."""
        return {"local": self.random.local.get_state(), "global": global_state()}

    def _compare(self, then: dict[str, Any]) -> None:
        for table, rows in then["rows"].items():
            if self.facts["rows"].get(table) != rows:
                raise DataError(
                    f"table '{table}' had {rows} rows when this run began and has {self.facts['rows'].get(table)} now: "
                    "a run can only be resumed on the same data; start a new one (init_from takes its weights)"
                )
        changed = [f"{key} was {then[key]}, is {self.facts[key]}" for key in then if key != "rows" and then[key] != self.facts.get(key)]
        if changed:
            self.context.log(f"warning: the result may differ in the last bits from an uninterrupted run: {'; '.join(changed)}")
