"""train_run: a resolved run file → stages → bundle → evaluation. Each boundary lies on disk, so an interrupted run goes on there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from embedkit.config.model import TrainConfig
from embedkit.errors import EmbedkitError, UsageError
from embedkit.files import atomic_folder
from embedkit.nn.gather import world
from embedkit.runs import now
from embedkit.training.checkpoint import Checkpoints
from embedkit.training.compute import autocast_type, choose_precision, derive_seed, facts, seeded, set_up
from embedkit.training.curve import draw_curve
from embedkit.training.distributed import first, from_first, one_error, same_state, wait
from embedkit.training.memory import give_back
from embedkit.training.optimize import wants_sparse
from embedkit.training.report import MetricsFile, RunLog
from embedkit.training.stages import Onlooker, Stage, StageContext, StageResult
from embedkit.training.warm import carry_over

if TYPE_CHECKING:
    from embedkit.config.plan import Plan
    from embedkit.data.codecs import Codecs
    from embedkit.data.store import DataPath, Store
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
        metrics: the model's own figures at the end (``evaluate_on`` of the run file says on which split), by metric.
        estimates: all figures, with intervals and baselines.
        stages: what each stage left, its best validation among it.
    """

    folder: RunFolder
    bundle: Path
    metrics: Mapping[str, float] = field(default_factory=dict)
    estimates: tuple[Estimate, ...] = ()
    stages: tuple[StageResult, ...] = ()


def train_run(
    plan: Plan,
    folder: RunFolder,
    host: Host,
    *,
    resume: bool = False,
    log: Callable[[str], Any] = lambda line: None,
    evaluate: bool = True,
    curve: bool = True,
    onlooker: Onlooker | None = None,
) -> RunResult:
    """Run every stage of a plan, write the bundle, evaluate it.

    Args:
        plan: the resolved run file; ``run.resolved.toml`` lies in ``folder`` already.
        folder: of the run.
        host: plugins.
        resume: go on where the folder's checkpoints end; on the same machine, threads, torch and data path the weights come out equal,
            bit for bit, to those of an uninterrupted run (decision 18).
        log: takes one line for people; the folder's ``log.txt`` keeps them.
        evaluate: measure at the end, as ``evaluate_on`` says; trials of a tuning do not.
        curve: draw the training curve after each stage, a quarter of a second.
        onlooker: called with a stage's index and record at every validation; what it raises ends the run.

    Raises:
        UsageError, DataError, PluginError, BundleError: something is wrong with the run file, the data or a plugin. A new run that ends so
            before its first checkpoint leaves no folder.
        KeyboardInterrupt: it was asked to stop; ``resume`` goes on.
    """
    started = False
    log = RunLog(folder.log, log) if first() else lambda line: None
    try:
        with folder.running() if first() else nullcontext(), one_error():
            started = True
            with _chronicle(folder, resume) if first() else nullcontext():
                return _announced(plan, folder, host, lambda: _Run(plan, folder, host, resume, log, evaluate, curve, onlooker).run())
    except EmbedkitError as error:
        mendable = error.exit_code == EmbedkitError.exit_code  # no bug, in whichever process
        if first() and started and mendable and not resume and not folder.bundle.exists() and not any(folder.checkpoints.glob("stage-*")):
            folder.discard()
        raise


@contextmanager
def _chronicle(folder: RunFolder, resume: bool) -> Iterator[None]:
    """Keep in ``log.txt`` when a run began and ended, and what it died of."""
    keep = RunLog(folder.log, lambda line: None).keep
    keep(f"{now()}  {'resumed' if resume else 'started'}")
    try:
        yield
    except BaseException as error:
        how = "interrupted" if isinstance(error, KeyboardInterrupt) else f"failed: {error or type(error).__name__}"
        with suppress(EmbedkitError):  # a full disk, say; the first error is the one to tell
            keep(f"{now()}  {how}")
        raise
    keep(f"{now()}  finished")


def _announced(plan: Plan, folder: RunFolder, host: Host, run: Callable[[], RunResult]) -> RunResult:
    """Run, and tell plugins of the end."""
    error: BaseException | None = None
    try:
        host.require(plan.config.plugins.require)
        return run()
    except BaseException as found:
        error = found
        raise
    finally:
        if first():
            host.announce("run_finished", run=folder, error=error)


class _Run:
    """The parts of one run, in the order in which they happen."""

    def __init__(
        self,
        plan: Plan,
        folder: RunFolder,
        host: Host,
        resume: bool,
        log: Callable[[str], Any],
        evaluate: bool,
        curve: bool,
        onlooker: Onlooker | None,
    ) -> None:
        self.plan, self.folder, self.host, self.resume, self.log = plan, folder, host, resume, log
        self.evaluate, self.curve, self.onlooker = evaluate, curve, onlooker
        self.device = set_up(plan.config.compute)
        self.metrics = MetricsFile(folder.metrics)
        self.estimates: list[Estimate] = []
        self._codecs = folder.checkpoints / "codecs"
        self.tables: dict[str, Mapping[str, Path]] = {}

    def run(self) -> RunResult:
        from embedkit.data.store import Store

        if not self.resume and first():
            self.metrics.cut(0)
        store = Store.open(self.plan, log=self.log)
        start = self._start()
        self._fit(store, start)
        model = self._model(store, start)
        results = [self._stage(index, model, store) for index in range(len(self.plan.stages))]
        metrics = from_first(lambda: self._end(model, store, results))
        give_back()
        return RunResult(self.folder, self.folder.bundle, metrics, tuple(self.estimates), tuple(results))

    # ------------------------------------------------------------------ data and model

    def _start(self) -> Any:
        """The bundle that the run starts from, if any."""
        if self.plan.config.init_from is None:
            return None
        from embedkit.bundle import load_bundle

        return load_bundle(self.plan.base / self.plan.config.init_from, self.host.registry)

    def _fit(self, store: Store, start: Any) -> None:
        """Have fitted codecs; the first process fits them, and chooses what the run file leaves open, for all."""
        from embedkit.data.codecs import Codecs

        compute = self.plan.config.compute
        data_path, precision = from_first(lambda: (self._fit_here(store, start), choose_precision(compute)))
        if not first():
            store.use(Codecs.load(self._codecs, self.plan.model), data_path)
        self._keep(data_path=data_path, precision=precision)

    def _fit_here(self, store: Store, start: Any) -> DataPath:
        """Fit the codecs on the train rows, once a run: a resume reads them again. Returns the data path."""
        from embedkit.data.codecs import Codecs

        path = self._codecs
        if self.resume and path.exists():
            store.use(Codecs.load(path, self.plan.model))
            return store.data_path
        codecs: Codecs = store.fit(None if start is None else start.codecs)
        if start is not None:
            _require_grown(codecs, start.codecs, self.plan.config.init_from or "")
        with atomic_folder(path, replace=True) as beside:
            codecs.save(beside)
        return store.data_path

    def _keep(self, **chosen: str) -> None:
        """Write what was chosen for "auto" into the resolved run file, so that a resume takes it again (decision 8)."""
        from embedkit.config.resolve import write_resolved

        config = self.plan.config
        if all(getattr(config.compute, name) == value for name, value in chosen.items()):
            return
        if config.compute.precision == "auto":
            self.log(f"precision: {chosen['precision']}")
        self.plan = replace(self.plan, config=config.model_copy(update={"compute": config.compute.model_copy(update=chosen)}))
        if first():
            write_resolved(self.plan, self.folder.resolved)

    def _model(self, store: Store, start: Any) -> Model:
        from embedkit.nn.model import Model
        from embedkit.training.catalogue import Catalogue

        trains = [stage.config for stage in self.plan.stages if isinstance(stage.config, TrainConfig)]
        sparse = bool(trains) and all(wants_sparse(config, self.host.registry) for config in trains)
        with seeded(derive_seed(self.plan.config.seed, "weights")):
            model = Model(self.plan.model, store.codecs.stats, sparse=sparse)
        if start is not None:
            where = self.plan.config.init_from or ""
            self.log(f"init_from {where}: {carry_over(model, start.model.state_dict(), where=where).text()}")
        model.catalogue = Catalogue(store, self.device)
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
            onlooker=self.onlooker,
        )
        checkpoints = Checkpoints(context.checkpoints)
        done = checkpoints.finished() if self.resume else None
        if done is not None:
            model.load_state_dict(done["model"])
            self.log(f"{name}: had ended, taken from its checkpoint")
            found = _result(done["result"])
            self._remember(index, found.tables)
            return found
        stage = cast(Stage, part.create(None))
        result = _run_stage(stage, context)
        self._remember(index, result.tables)
        if first():
            checkpoints.finish(model.state_dict(), _kept(result))
            if self.curve:
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

    def _end(self, model: Model, store: Store, results: list[StageResult]) -> Mapping[str, float]:
        """Evaluate and write the bundle; returns the model's own figures."""
        model.refresh()
        self.estimates, metrics = self._evaluate(model, store)
        self._save(model, store, metrics, results)
        return metrics

    def _evaluate(self, model: Model, store: Store) -> tuple[list[Estimate], dict[str, float]]:
        split = self.plan.config.evaluate_on
        if not self.evaluate or not self.plan.evaluators or split == "none":
            return [], {}
        from embedkit.evaluate.run import evaluate_run, means, write_evaluation

        compute = self.plan.config.compute
        estimates = evaluate_run(
            self.plan,
            model,
            store,
            split=split,
            folder=self.folder,
            device=self.device,
            precision=autocast_type(compute) or torch.float32,
        )
        write_evaluation(self.folder, estimates, plan=self.plan, split=split)
        return estimates, means(estimates)

    def _save(self, model: Model, store: Store, metrics: Mapping[str, float], results: list[StageResult]) -> None:
        from embedkit.bundle import save_bundle

        split = self.plan.config.evaluate_on
        named = metrics if split == "test" else {f"{split}/{name}": value for name, value in metrics.items()}
        training = {
            "seed": self.plan.config.seed,
            "init_from": self.plan.config.init_from,
            "stages": [{"steps": result.steps, "metrics": dict(result.metrics)} for result in results],
            "facts": facts(self.device, store.data_path),
        }
        model.eval()
        save_bundle(self.folder.bundle, model=model.to("cpu"), codecs=store.codecs, plan=self.plan, metrics=named, training=training)


def _run_stage(stage: Stage, context: StageContext) -> StageResult:
    """Run a stage: on all processes, or on the first one for all. Every process is done with its files afterwards."""
    if stage.parallel or world() == 1:
        result = stage.run(context)
        wait()
        return result
    kept = from_first(lambda: _kept(stage.run(context)))
    same_state(context.model)
    return _result(kept)


def _kept(result: StageResult) -> dict[str, Any]:
    """A stage's result as a JSON value."""
    return {"metrics": dict(result.metrics), "tables": {n: str(p) for n, p in result.tables.items()}, "steps": result.steps}


def _result(kept: Mapping[str, Any]) -> StageResult:
    return StageResult(kept["metrics"], {name: Path(path) for name, path in kept["tables"].items()}, kept["steps"])


def _require_grown(new: Codecs, old: Codecs, where: str) -> None:
    """Raise ``UsageError`` unless every vocabulary of the bundle is the beginning of the run's."""
    for domain, vocabulary in old.vocabularies.items():
        grown = new.vocabularies.get(domain)
        if grown is not None and not grown.values.slice(0, len(vocabulary.values)).equals(vocabulary.values):
            raise UsageError(
                f"init_from {where}: the values of domain '{domain}' there are not the first ones here, so rows cannot be carried over"
            )
