"""train_run: a resolved run file → stages → bundle → evaluation. Each boundary lies on disk, so an interrupted run goes on there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from embedkit.config.model import TrainConfig
from embedkit.errors import EmbedkitError, UsageError
from embedkit.files import atomic_folder
from embedkit.training.checkpoint import Checkpoints
from embedkit.training.compute import autocast_type, derive_seed, facts, seeded, set_up
from embedkit.training.curve import draw_curve
from embedkit.training.optimize import wants_sparse
from embedkit.training.report import MetricsFile
from embedkit.training.stages import Stage, StageContext, StageResult
from embedkit.training.warm import carry_over

if TYPE_CHECKING:
    from embedkit.config.plan import Plan
    from embedkit.data.codecs import Codecs
    from embedkit.data.store import Store
    from embedkit.evaluate.base import Estimate
    from embedkit.host import Host
    from embedkit.nn.model import Model
    from embedkit.runs import RunFolder


@dataclass(frozen=True)
class RunResult:
    """What a run left.

    Attributes:
        folder: the run's folder.
        bundle: the trained bundle's folder.
        metrics: the model's own figures on the test split, by metric.
        estimates: all figures, with intervals and baselines.
    """

    folder: RunFolder
    bundle: Path
    metrics: Mapping[str, float] = field(default_factory=dict)
    estimates: tuple[Estimate, ...] = ()


def train_run(
    plan: Plan,
    folder: RunFolder,
    host: Host,
    *,
    resume: bool = False,
    log: Callable[[str], Any] = lambda line: None,
) -> RunResult:
    """Run every stage of a plan, write the bundle, evaluate it.

    Args:
        plan: the resolved run file; ``run.resolved.toml`` lies in ``folder`` already.
        folder: of the run.
        host: plugins.
        resume: go on where the folder's checkpoints end; on the same machine, threads, torch and data path the weights come out equal,
            bit for bit, to those of an uninterrupted run (decision 18).
        log: takes one line for people.

    Raises:
        UsageError, DataError, PluginError, BundleError: something is wrong with the run file, the data or a plugin. A new run that ends so
            before its first checkpoint leaves no folder.
        KeyboardInterrupt: it was asked to stop; ``resume`` goes on.
    """
    started = False
    try:
        with folder.running():
            started = True
            return _announced(plan, folder, host, resume, log)
    except EmbedkitError:
        if started and not resume and not folder.bundle.exists() and not any(folder.checkpoints.glob("stage-*")):
            folder.discard()
        raise


def _announced(plan: Plan, folder: RunFolder, host: Host, resume: bool, log: Callable[[str], Any]) -> RunResult:
    """Run, and tell plugins of the end."""
    error: BaseException | None = None
    try:
        host.require(plan.config.plugins.require)
        return _Run(plan, folder, host, resume, log).run()
    except BaseException as found:
        error = found
        raise
    finally:
        host.announce("run_finished", run=folder, error=error)


class _Run:
    """The parts of one run, in the order in which they happen."""

    def __init__(self, plan: Plan, folder: RunFolder, host: Host, resume: bool, log: Callable[[str], Any]) -> None:
        self.plan, self.folder, self.host, self.resume, self.log = plan, folder, host, resume, log
        self.device = set_up(plan.config.compute)
        self.metrics = MetricsFile(folder.metrics)
        self.tables: dict[str, Mapping[str, Path]] = {}

    def run(self) -> RunResult:
        from embedkit.data.store import Store

        if not self.resume:
            self.metrics.cut(0)
        store = Store.open(self.plan, log=self.log)
        start = self._start()
        self._fit(store, start)
        model = self._model(store, start)
        results = [self._stage(index, model, store) for index in range(len(self.plan.stages))]
        estimates, metrics = self._evaluate(model, store)
        self._save(model, store, metrics, results)
        return RunResult(self.folder, self.folder.bundle, metrics, tuple(estimates))

    # ------------------------------------------------------------------ data and model

    def _start(self) -> Any:
        """The bundle that the run starts from, if any."""
        if self.plan.config.init_from is None:
            return None
        from embedkit.bundle import load_bundle

        return load_bundle(self.plan.base / self.plan.config.init_from, self.host.registry)

    def _fit(self, store: Store, start: Any) -> None:
        """Fit the codecs on the train rows, once a run: a resume reads them again."""
        from embedkit.data.codecs import Codecs

        path = self.folder.checkpoints / "codecs"
        if self.resume and path.exists():
            store.use(Codecs.load(path, self.plan.model))
            return
        codecs: Codecs = store.fit(None if start is None else start.codecs)
        if start is not None:
            _require_grown(codecs, start.codecs, self.plan.config.init_from or "")
        with atomic_folder(path, replace=True) as beside:
            codecs.save(beside)
        self._keep_data_path(store)

    def _keep_data_path(self, store: Store) -> None:
        """Write the data path that was chosen into the resolved run file, so that a resume takes it again (decision 8)."""
        from embedkit.config.resolve import write_resolved

        config = self.plan.config
        if config.compute.data_path == "auto":
            compute = config.compute.model_copy(update={"data_path": store.data_path})
            self.plan = replace(self.plan, config=config.model_copy(update={"compute": compute}))
            write_resolved(self.plan, self.folder.resolved)

    def _model(self, store: Store, start: Any) -> Model:
        from embedkit.nn.model import Model

        trains = [stage.config for stage in self.plan.stages if isinstance(stage.config, TrainConfig)]
        sparse = bool(trains) and all(wants_sparse(config, self.host.registry) for config in trains)
        with seeded(derive_seed(self.plan.config.seed, "weights")):
            model = Model(self.plan.model, store.codecs.stats, sparse=sparse)
        if start is not None:
            where = self.plan.config.init_from or ""
            self.log(f"init_from {where}: {carry_over(model, start.model.state_dict(), where=where).text()}")
        return model.to(self.device)

    # ------------------------------------------------------------------ stages

    def _stage(self, index: int, model: Model, store: Store) -> StageResult:
        """Run one stage, or take what it left when it ended before the run was interrupted."""
        part = self.plan.stages[index]
        name = self._stage_name(index)
        context = StageContext(
            plan=self.plan,
            host=self.host,
            store=store,
            model=model,
            folder=self.folder,
            index=index,
            name=name,
            seed=derive_seed(self.plan.config.seed, "stage", index),
            device=self.device,
            resume=self.resume,
            log=self.log,
            tables=dict(self.tables),
        )
        checkpoints = Checkpoints(context.checkpoints)
        done = checkpoints.finished() if self.resume else None
        if done is not None:
            model.load_state_dict(done["model"])
            self.log(f"{name}: had ended, taken from its checkpoint")
            self._remember(index, _paths(done["result"]["tables"]))
            return StageResult(done["result"]["metrics"], _paths(done["result"]["tables"]), done["result"]["steps"])
        stage = cast(Stage, part.create(None))
        result = stage.run(context)
        kept = {"metrics": dict(result.metrics), "tables": {n: str(p) for n, p in result.tables.items()}, "steps": result.steps}
        checkpoints.finish(model.state_dict(), kept)
        self._remember(index, result.tables)
        draw_curve(self.metrics.records(), self.folder.curve, title=self.plan.config.name)
        self.host.announce("stage_finished", stage=name, result=result)
        return result

    def _remember(self, index: int, tables: Mapping[str, Path]) -> None:
        """Keep a stage's tables for later ones, under the name that the run file calls it by."""
        self.tables[str(getattr(self.plan.stages[index].config, "name", None) or index)] = tables

    def _stage_name(self, index: int) -> str:
        """What the log calls a stage: its name, or, where it has only its number, what it does."""
        part = self.plan.stages[index]
        name = getattr(part.config, "name", None) or str(index)
        if name != str(index):
            return str(name)
        return part.entry.name if len(self.plan.stages) == 1 else f"{part.entry.name}-{index}"

    # ------------------------------------------------------------------ the end

    def _evaluate(self, model: Model, store: Store) -> tuple[list[Estimate], dict[str, float]]:
        if not self.plan.evaluators:
            return [], {}
        from embedkit.evaluate.run import evaluate_run, means, write_evaluation

        compute = self.plan.config.compute
        estimates = evaluate_run(
            self.plan,
            model,
            store,
            split="test",
            folder=self.folder,
            device=self.device,
            precision=autocast_type(compute) or torch.float32,
        )
        write_evaluation(self.folder, estimates, plan=self.plan, split="test")
        return estimates, means(estimates)

    def _save(self, model: Model, store: Store, metrics: Mapping[str, float], results: list[StageResult]) -> None:
        from embedkit.bundle import save_bundle

        training = {
            "seed": self.plan.config.seed,
            "init_from": self.plan.config.init_from,
            "stages": [{"steps": result.steps, "metrics": dict(result.metrics)} for result in results],
            "facts": facts(self.device, store.data_path),
        }
        model.eval()
        save_bundle(self.folder.bundle, model=model.to("cpu"), codecs=store.codecs, plan=self.plan, metrics=metrics, training=training)


def _paths(tables: Mapping[str, str]) -> dict[str, Path]:
    return {name: Path(path) for name, path in tables.items()}


def _require_grown(new: Codecs, old: Codecs, where: str) -> None:
    """Raise ``UsageError`` unless every vocabulary of the bundle is the beginning of the run's."""
    for domain, vocabulary in old.vocabularies.items():
        grown = new.vocabularies.get(domain)
        if grown is not None and not grown.values.slice(0, len(vocabulary.values)).equals(vocabulary.values):
            raise UsageError(
                f"init_from {where}: the values of domain '{domain}' there are not the first ones here, so rows cannot be carried over"
            )
