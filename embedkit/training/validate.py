"""Validation during training, and when to stop."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from embedkit.config.model import StreamConfig, TrainConfig, ValidateConfig
from embedkit.data.sampler import BatchSampler, Rows, SamplerContext
from embedkit.data.windows import WINDOWS
from embedkit.errors import UsageError, suggest
from embedkit.training.compute import autocast_type, derive_seed, seeded
from embedkit.training.schedule import Clock
from embedkit.views import Random, View

if TYPE_CHECKING:
    from embedkit.training.session import Session
    from embedkit.training.stages import StageContext

_LOWER = ("loss", "error", "rmse", "mae", "mse", "rank")
VALID = 1
"""Split number of validation rows."""


class Stopper:
    """Keeps the best value, and says when there were ``patience`` validations without a better one."""

    def __init__(self, config: ValidateConfig) -> None:
        mode = config.mode
        if mode == "auto":
            mode = "min" if any(word in config.metric.lower() for word in _LOWER) else "max"
        self.mode = mode
        self.patience = config.patience
        self.best: float | None = None
        self.best_step: int | None = None
        self._worse = 0

    def see(self, value: float, step: int) -> bool:
        """Take a value; True when it is the best so far. NaN is never better."""
        if self.best is None:
            better = value == value
        else:
            better = value < self.best if self.mode == "min" else value > self.best
        if better:
            self.best, self.best_step, self._worse = value, step, 0
        else:
            self._worse += 1
        return better

    @property
    def stopped(self) -> bool:
        """Whether patience has run out."""
        return self.patience is not None and self._worse >= self.patience

    def state_dict(self) -> dict[str, Any]:
        """Best value, its step, and validations since."""
        return {"best": self.best, "best_step": self.best_step, "worse": self._worse}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take what ``state_dict`` returned."""
        self.best, self.best_step, self._worse = state["best"], state["best_step"], state["worse"]


class InOrder(BatchSampler):
    """The rows in their order, once an epoch."""

    def __init__(self, config: Any, *, context: SamplerContext) -> None:
        super().__init__(config, context=context)
        self._batch = 0

    @property
    def batches_per_epoch(self) -> int:
        """Batches that hold all rows."""
        return -(-len(self.context.rows) // self.context.size)

    def __iter__(self) -> Iterator[Rows]:
        """Batches of row numbers, for ever."""
        while True:
            start = self._batch * self.context.size
            self._batch = (self._batch + 1) % self.batches_per_epoch
            yield self.context.rows[start : start + self.context.size]

    def state_dict(self) -> dict[str, int]:
        """The position after the last batch that was yielded."""
        return {"batch": self._batch}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Continue from there."""
        self._batch = int(state["batch"])


def check_metric(config: TrainConfig, context: StageContext, *, where: str) -> None:
    """Raise ``UsageError`` unless the validation metric is ``loss`` or one that an evaluator reports, and there are valid rows for it."""
    if config.validate_ is None:
        return
    metric = config.validate_.metric
    if metric == "loss":
        stream = next(iter(config.streams.values()))
        if len(_valid_rows(context, stream)) == 0:
            raise UsageError(
                f"{where}.validate: table '{stream.table}' has no valid rows: give its split a 'valid', or leave 'validate' out"
            )
        return
    known = {name for part in context.plan.evaluators for name in part.entry.load().metrics(part.config)}
    if metric not in known:
        there = ", ".join(["loss", *sorted(known)])
        raise UsageError(f"{where}.validate.metric: nothing reports '{metric}'{suggest(metric, known)}; there are {there}")


def measure(session: Session) -> dict[str, float]:
    """The figures of one validation, the metric that decides among them. Generators and training mode are as before afterwards."""
    config = session.config.validate_
    assert config is not None
    context = session.context
    context.model.refresh()
    with seeded(derive_seed(context.seed, "validate")):
        if config.metric == "loss":
            return {"loss": valid_loss(session)}
        from embedkit.evaluate.run import evaluate_run, means

        compute = context.plan.config.compute
        estimates = evaluate_run(
            context.plan,
            session.kept,
            context.store,
            split="valid",
            quick=True,
            max_queries=config.max_queries,
            device=context.device,
            precision=autocast_type(compute) or torch.float32,
        )
        return means(estimates)


@torch.no_grad()
def valid_loss(session: Session) -> float:
    """Mean of the total loss over the first stream's valid rows, batch by batch.

    Streams without valid rows of their own give the same train batches each time. Windows are measured as events: each valid event
    once, with its history. The last batch is left out when it is smaller than the others, for in-batch losses depend on the size.
    """
    from embedkit.data.loader import Loader, make_loader

    context, config = session.context, session.config
    loaders = {}
    batches = 0
    for i, (name, stream) in enumerate(config.streams.items()):
        rows = _valid_rows(context, stream)
        if len(rows):
            shown = stream.model_copy(update={"rows": "events"}) if stream.rows in WINDOWS else stream
            size = min(shown.size, len(rows))
            sampler = InOrder(None, context=SamplerContext(_sample(rows, session), size, 0))
            loaders[name] = iter(Loader(context.store, shown, sampler, session.fields[name]))
            batches = max(1, len(sampler.context.rows) // size) if i == 0 else batches
        else:
            seed = derive_seed(context.seed, "validate", name)
            loaders[name] = iter(
                make_loader(context.store, name, stream, context.host.registry, seed, session.fields[name], groups=session.groups.get(name))
            )
    random = Random(torch.Generator().manual_seed(0), torch.Generator().manual_seed(1))
    clock = Clock(session.step, session.total)
    total = torch.zeros((), device=context.device)
    session.module.eval()
    try:
        for _ in range(batches):
            streams = {name: View(next(loader).to(context.device)) for name, loader in loaders.items()}
            total += session.module(session.make_views(streams, random), clock, random).total.float()
    finally:
        session.module.train()
    return float(total / batches)


def _valid_rows(context: StageContext, stream: StreamConfig) -> Rows:
    store = context.store
    table = store.tables[stream.table] if stream.rows == "rows" else store.events[stream.table]
    return np.flatnonzero(np.asarray(table.split) == VALID).astype(np.int64)


def _sample(rows: Rows, session: Session) -> Rows:
    """At most ``max_queries`` of the rows, the same ones every time, in a random order: neighbours in a file resemble each other."""
    assert session.config.validate_ is not None
    limit = session.config.validate_.max_queries
    order = np.random.default_rng(derive_seed(session.context.seed, "validate")).permutation(len(rows))
    return rows[order[:limit]]
