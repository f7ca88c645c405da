"""tune: try options of a run file, keep the best. What is in the folder after each trial is all that going on needs."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from embedkit.config.load import read_toml
from embedkit.config.model import RunConfig
from embedkit.config.overrides import apply_overrides
from embedkit.config.resolve import without_none
from embedkit.errors import DataError, UsageError
from embedkit.files import atomic_file, atomic_write, locked, unmade_on_error
from embedkit.host import Host
from embedkit.launch import Run, prepare
from embedkit.launch import trial as try_step
from embedkit.tuning.space import Space, read_space, toml_value
from embedkit.tuning.study import SamplerName, Study, Trial, require_optuna
from embedkit.tuning.trials import Base, Pruned, check, objective_of, rebased, run_trial, short_options, strip

Log = Callable[[str], Any]
Keep = Literal["best", "all"]

MEMORY, LOCK = "tune.json", ".lock"
"""Files of a tuning's folder: what it was begun with, and what keeps a second process out."""


@dataclass(frozen=True)
class TuneResult:
    """What a tuning found.

    Attributes:
        folder: of the tuning.
        metric: what trials were judged by.
        mode: ``min`` or ``max``: which way is better.
        trials: all of them, in order.
        best: the best one.
    """

    folder: Path
    metric: str
    mode: Literal["min", "max"]
    trials: tuple[Trial, ...]
    best: Trial

    @property
    def best_run(self) -> Path:
        """The run file with the best options."""
        return self.folder / "best.toml"

    @property
    def table(self) -> Path:
        """Every trial with its options, Parquet."""
        return self.folder / "trials.parquet"


def tune_run(
    run: Run,
    space: Path | str | Mapping[str, Any],
    out: Path | str,
    host: Host,
    *,
    trials: int | None = None,
    sampler: SamplerName = "tpe",
    seed: int = 0,
    prune: bool = False,
    keep: Keep = "best",
    overrides: Sequence[str] = (),
    base: Path | None = None,
    log: Log = lambda line: None,
) -> TuneResult:
    """Tune a run; see ``embedkit.tune``."""
    from embedkit.nn.gather import world

    require_optuna()
    if world() > 1:
        raise UsageError("a tuning runs in one process; start it without a launcher of several")
    tried = read_space(space)
    start = _base(run, host, overrides, base)
    check(start, tried, host)
    total = _total(trials, sampler, tried)
    folder = Path(out)
    if folder.is_dir() and not (folder / MEMORY).is_file() and any(one.name != LOCK for one in folder.iterdir()):
        raise UsageError(f"{folder}: holds something else than a tuning; name a new folder with --out")
    with unmade_on_error(folder, keep=(folder / "trials").is_dir), locked(folder / LOCK, f"the tuning {folder}"):
        _remember(folder, start, tried, {"sampler": sampler, "seed": seed, "prune": prune})
        study = Study(folder, tried, start.objective, sampler=sampler, seed=seed, prune=prune)
        _Tuning(study, start, host, keep, log).go(total)
        return _result(study, start)


def _base(run: Run, host: Host, overrides: Sequence[str], folder: Path | None) -> Base:
    if isinstance(run, (str, Path)):
        where, data = str(run), read_toml(Path(run))
        folder = Path(run).resolve().parent if folder is None else folder
    else:
        where = "run"
        data = run.model_dump(mode="json", by_alias=True) if isinstance(run, RunConfig) else json.loads(json.dumps(run))
    prepare(run, host, overrides=overrides, base=folder)  # what is wrong is told with the file's own name
    apply_overrides(data, overrides)
    folder = (folder or Path()).resolve()
    plan = prepare(data, host, base=folder).plan
    return Base(without_none(data), folder, where, plan, objective_of(plan, where))


def _total(trials: int | None, sampler: SamplerName, space: Space) -> int:
    """How many trials there are to be."""
    if sampler == "grid":
        size = len(space.grid())
        return size if trials is None else min(trials, size)
    if trials is None:
        raise UsageError("say how many trials there are to be (--trials); only a grid has a number of its own")
    if trials < 1:
        raise UsageError(f"{trials} trials are none; one is the least")
    return trials


def _remember(folder: Path, base: Base, space: Space, settings: Mapping[str, Any]) -> None:
    """Write down what is tuned; refuse to go on with a tuning of something else.

    How it is computed (device, threads) may change in between.
    """
    data = {key: value for key, value in base.data.items() if key != "compute"}
    asked: dict[str, Any] = {"format": 1, "run": data, "base": str(base.folder), "space": space.to_json(), **settings}
    path = folder / MEMORY
    if not path.is_file():
        atomic_write(path, json.dumps(asked, indent=1, ensure_ascii=False) + "\n")
        return
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise DataError(f"{path}: is no JSON; name a new folder with --out") from None
    now = json.loads(json.dumps(asked))
    other = [key for key in now if before.get(key) != now[key]]
    if other:
        raise UsageError(f"{folder}: was begun with another {' and another '.join(other)}; name a new folder with --out, or change it back")


class _Tuning:
    """The loop over trials."""

    def __init__(self, study: Study, base: Base, host: Host, keep: Keep, log: Log) -> None:
        self.study, self.base, self.host, self.keep, self.log = study, base, host, keep, log
        self.keys = list(study.space.options)

    def go(self, total: int) -> None:
        """Try until there are ``total`` trials, those of earlier calls counted."""
        if not self.study.trials():
            try_step(self.base.plan, self.host)  # what is wrong with the tables would fail every trial
        self._tidy()
        while sum(trial.state != "running" for trial in self.study.trials()) < total:
            trial = self.study.next()
            self.log(f"trial {trial.number} of {total}: {short_options(trial.options, self.keys)}")
            self.log(f"trial {trial.number}: {self._try(trial)}")
            self._tidy()

    def _try(self, trial: Trial) -> str:
        """Train one trial, write down what became of it, and say so.

        Options that cannot be trained with (they contradict each other, or the loss diverged) make a failed trial; what comes from outside
        (a full disk, a missing plugin) ends the tuning, and the trial is gone on with later.
        """
        study, number = self.study, trial.number
        started = time.monotonic()
        try:
            value = run_trial(
                self.base, trial.options, trial.run, self.host, onlooker=study.onlooker(number), log=lambda line: self.log(f"  {line}")
            )
        except Pruned as reason:
            study.spent(number, time.monotonic() - started)
            study.prune(number)
            return str(reason)
        except (UsageError, DataError) as error:
            if error.__cause__ is not None:
                raise
            study.spent(number, time.monotonic() - started)
            study.fail(number, str(error))
            return f"failed: {error}"
        except KeyboardInterrupt:
            study.spent(number, time.monotonic() - started)
            raise
        study.spent(number, time.monotonic() - started)
        study.finish(number, value)
        return f"{self.base.objective.metric} {value:.4f}"

    def _tidy(self) -> None:
        """Bring the table, the best run file and the kept weights up to date; a kill in between leaves it to the next call."""
        trials, best = self.study.trials(), self.study.best()
        write_table(trials, self.keys, self.study.folder / "trials.parquet")
        if best is not None:
            write_best(self.base, best, self.study.folder / "best.toml")
        for trial in trials:
            if trial.state != "running" and self.keep == "best" and (best is None or trial.number != best.number):
                strip(trial.run)


def _result(study: Study, base: Base) -> TuneResult:
    trials, best = study.trials(), study.best()
    if best is None:
        first = next((trial.error for trial in trials if trial.error), "each was ended early")
        raise UsageError(f"{study.folder}: none of {len(trials)} trials came to its end; the first: {first}")
    return TuneResult(study.folder, base.objective.metric, base.objective.mode, tuple(trials), best)


def write_best(base: Base, best: Trial, path: Path) -> None:
    """Write the run file with a trial's options. Its paths start from its own folder, and ``train`` takes it as it is."""
    import tomli_w

    data: dict[str, Any] = json.loads(json.dumps(base.data))
    apply_overrides(data, [f"{key}={toml_value(value)}" for key, value in best.options.items()])
    folder = path.parent.resolve()

    def move(place: str) -> str:
        return place if "://" in place or os.path.isabs(place) else Path(os.path.relpath(base.folder / place, folder)).as_posix()

    head = [
        f"# The best trial of a tuning by {base.objective.metric} on the validation rows: number {best.number}, {best.value:.6g}, with",
        *(f"#   {key} = {toml_value(value)}" for key, value in best.options.items()),
    ]
    atomic_write(path, "\n".join(head) + "\n" + tomli_w.dumps(rebased(data, move)))


def write_table(trials: Sequence[Trial], keys: Sequence[str], path: Path) -> None:
    """Write all trials as Parquet: number, state, value, seconds, error, and a column an option. Values that are not all numbers, all words
    or all true or false stand there as TOML.
    """
    import polars as pl

    columns: dict[str, Any] = {
        "number": pl.Series([trial.number for trial in trials], dtype=pl.Int64),
        "state": pl.Series([trial.state for trial in trials], dtype=pl.String),
        "value": pl.Series([trial.value for trial in trials], dtype=pl.Float64),
        "seconds": pl.Series([trial.seconds for trial in trials], dtype=pl.Float64),
        "error": pl.Series([trial.error for trial in trials], dtype=pl.String),
    }
    for key in keys:
        columns[key] = _column([trial.options.get(key) for trial in trials])
    with atomic_file(path) as beside:
        pl.DataFrame(columns).write_parquet(beside)


def _column(values: Sequence[Any]) -> Any:
    import polars as pl

    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int, float} and kinds:
        return pl.Series(values, dtype=pl.Float64 if float in kinds else pl.Int64, strict=False)
    if len(kinds) == 1 and kinds <= {bool, str}:
        return pl.Series(values)
    return pl.Series([None if value is None else toml_value(value) for value in values], dtype=pl.String)
