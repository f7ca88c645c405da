"""One trial: the run with some options changed, trained in a folder of its own and judged by its best validation, never on test rows."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from embedkit.config.model import TrainConfig
from embedkit.config.plan import Plan
from embedkit.config.resolve import write_resolved
from embedkit.errors import UsageError
from embedkit.files import atomic_write, make_folder
from embedkit.launch import Launch, prepare, reopen
from embedkit.runs import RunFolder
from embedkit.tuning.space import Space, toml_value

if TYPE_CHECKING:
    from embedkit.host import Host
    from embedkit.training.stages import Onlooker

Log = Callable[[str], Any]


class Pruned(Exception):  # noqa: N818 - no error: the trial was ended on purpose
    """A trial was ended early, since others were better by then."""


@dataclass(frozen=True)
class Objective:
    """What trials are judged by: the best validation of a train stage.

    Attributes:
        stage: index of the last stage that validates.
        metric: its ``validate.metric``.
        mode: ``min`` or ``max``: which way is better.
        max_queries: its ``validate.max_queries``.
    """

    stage: int
    metric: str
    mode: Literal["min", "max"]
    max_queries: int | None = None


def objective_of(plan: Plan, where: str) -> Objective:
    """What a run's trials are judged by.

    Raises:
        UsageError: no stage validates.
    """
    from embedkit.training.validate import Stopper

    for index in reversed(range(len(plan.stages))):
        config = plan.stages[index].config
        if isinstance(config, TrainConfig) and config.validate_ is not None:
            mode: Literal["min", "max"] = "min" if Stopper(config.validate_).mode == "min" else "max"
            return Objective(index, config.validate_.metric, mode, config.validate_.max_queries)
    raise UsageError(f"{where}: no stage validates, so there is nothing to tune by; add validate = {{ metric = … }} to its train stage")


@dataclass(frozen=True)
class Base:
    """The run that trials change.

    Attributes:
        data: the run file's contents, changes of the command line applied.
        folder: where relative paths in it start from.
        where: what messages call it.
        plan: the run, resolved.
        objective: what its trials are judged by.
    """

    data: Mapping[str, Any]
    folder: Path
    where: str
    plan: Plan
    objective: Objective

    def launch(self, options: Mapping[str, Any], host: Host) -> Launch:
        """The run with some options changed.

        Raises:
            UsageError: a line for everything that is wrong with it.
        """
        changes = [f"{key}={toml_value(value)}" for key, value in options.items()]
        try:
            return prepare(self.data, host, overrides=changes, base=self.folder)
        except UsageError as error:
            lines = (line.removeprefix("run: ").removeprefix("--set ") for line in str(error).split("\n"))
            raise UsageError("\n".join(dict.fromkeys(lines))) from None


def check(base: Base, space: Space, host: Host) -> None:
    """Resolve the run with every value of the space, one option at a time, before anything is trained.

    Raises:
        UsageError: a line for everything that is wrong.
    """
    wrong: list[str] = []
    for key, value in space.probes():
        try:
            plan = base.launch({key: value}, host).plan
        except UsageError as error:
            wrong += [f"{space.where}: {key} = {toml_value(value)}: {line}" for line in str(error).split("\n")]
            continue
        if objective_of(plan, base.where) != base.objective:
            wrong.append(
                f"{space.where}: {key}: changes what trials are judged by ({base.objective.metric}), so they could not be compared"
            )
    if wrong:
        raise UsageError("\n".join(dict.fromkeys(wrong)))


def run_trial(base: Base, options: Mapping[str, Any], path: Path, host: Host, *, onlooker: Onlooker, log: Log) -> float:
    """Train one trial in ``path``, or go on with it where it was interrupted.

    Returns:
        Its best validation.

    Raises:
        Pruned: ``onlooker`` ended it.
        UsageError: no validation gave a number, or as ``train_run``.
        DataError, PluginError, BundleError: as ``embedkit.training.run.train_run``.
        KeyboardInterrupt: it was asked to stop; the same call goes on.
    """
    from embedkit.training.run import train_run

    plan, resume = _open(base, options, path, host)
    result = train_run(plan, RunFolder(path), host, resume=resume, log=log, evaluate=False, onlooker=onlooker)
    value = result.stages[base.objective.stage].metrics.get(base.objective.metric)
    if value is None:
        raise UsageError(f"no validation gave a number for {base.objective.metric}")
    return value


def _open(base: Base, options: Mapping[str, Any], path: Path, host: Host) -> tuple[Plan, bool]:
    """The trial's plan, and whether it goes on from checkpoints."""
    if (path / "status.json").is_file() and (path / "checkpoints" / "codecs").is_dir():
        return reopen(path, host)[0], True
    shutil.rmtree(path, ignore_errors=True)
    launch = base.launch(options, host)
    folder = RunFolder(make_folder(path))
    atomic_write(folder.run, launch.text)
    write_resolved(launch.plan, folder.resolved)
    return launch.plan, False


def strip(path: Path) -> None:
    """Remove a trial's weights; what it was and how it went stays."""
    for heavy in ("bundle", "checkpoints"):
        with suppress(FileNotFoundError):
            shutil.rmtree(path / heavy)


def rebased(data: Mapping[str, Any], move: Callable[[str], str]) -> dict[str, Any]:
    """A run file's contents with every path moved: those of tables, of ``init_from`` and of frozen networks."""
    out = dict(data)
    if isinstance(out.get("init_from"), str):
        out["init_from"] = move(out["init_from"])
    out["tables"] = {
        name: {**table, "uri": move(table["uri"]) if isinstance(table["uri"], str) else [move(uri) for uri in table["uri"]]}
        for name, table in out["tables"].items()
    }
    out["stages"] = [_rebased_stage(stage, move) for stage in out.get("stages", [])]
    return out


def _rebased_stage(stage: Mapping[str, Any], move: Callable[[str], str]) -> dict[str, Any]:
    networks: Mapping[str, Any] = stage.get("networks") or {}
    if not any("bundle" in network for network in networks.values()):
        return dict(stage)
    moved = {name: {**one, "bundle": move(one["bundle"])} if "bundle" in one else one for name, one in networks.items()}
    return {**stage, "networks": moved}


def short_options(options: Mapping[str, Any], keys: Sequence[str]) -> str:
    """Options in one line, each by the last parts of its key that tell it from the others."""
    names = short_names(keys)
    return ", ".join(f"{names[key]} = {_shown(options[key])}" for key in keys if key in options)


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else toml_value(value)


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """Key → as many of its last parts as tell it from the others: ``stages.0.optimizer.lr`` → ``lr``."""
    names: dict[str, str] = {}
    for key in keys:
        parts = key.split(".")
        ends = (".".join(parts[-n:]) for n in range(1, len(parts) + 1))
        names[key] = next((end for end in ends if sum(other == end or other.endswith(f".{end}") for other in keys) == 1), key)
    return names
