"""From a run file to a plan and a folder: what ``embedkit.train`` and the command line do before training. No torch here."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from embedkit.config.load import parse_run, read_toml
from embedkit.config.model import RunConfig, StreamConfig, TrainConfig
from embedkit.config.overrides import apply_overrides
from embedkit.config.plan import Plan
from embedkit.config.resolve import load_resolved, resolve, without_none, write_resolved
from embedkit.errors import EmbedkitError, UsageError
from embedkit.files import atomic_write
from embedkit.host import Host
from embedkit.runs import RunFolder, list_runs

Run = Path | str | Mapping[str, Any] | RunConfig
"""A run file's path, its contents, or its model."""


@dataclass(frozen=True)
class Launch:
    """A run that is checked and may start.

    Attributes:
        plan: the resolved run.
        text: ``run.toml``: the file as it was written when nothing was changed, else its contents with the changes.
    """

    plan: Plan
    text: str

    def create_folder(self, root: Path | str) -> RunFolder:
        """Make the run's folder under ``root``, with ``run.toml`` and ``run.resolved.toml`` in it.

        Raises:
            UsageError, DataError: it cannot be written; nothing is left of it.
        """
        if not several():
            return self._create(root)
        from embedkit.training.distributed import from_first

        return RunFolder(Path(from_first(lambda: str(self._create(root).path))))

    def _create(self, root: Path | str) -> RunFolder:
        folder = RunFolder.create(Path(root), self.plan.config.name, self.plan.config.seed)
        try:
            atomic_write(folder.run, self.text)
            write_resolved(self.plan, folder.resolved)
        except EmbedkitError:
            folder.discard()
            raise
        return folder


def several() -> bool:
    """Whether this is one of several processes that ``torchrun`` started."""
    return "RANK" in os.environ and "MASTER_ADDR" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


@contextmanager
def together() -> Iterator[None]:
    """Be one of the processes that ``torchrun`` started, if it did: they train one run, and an error of one ends all, told once."""
    if not several():
        yield
        return
    from embedkit.training.distributed import joined

    with joined():
        yield


def prepare(run: Run, host: Host, *, overrides: Sequence[str] = (), seed: int | None = None, base: Path | None = None) -> Launch:
    """Read, change, resolve and check a run.

    Args:
        run: a run file or its contents.
        host: plugins.
        overrides: ``key.path=value`` each.
        seed: in place of the run's.
        base: folder that relative paths start from; the run file's folder, or the current one when there is no file.

    Raises:
        UsageError: a line for everything that is wrong, what plugins say about the run included.
        PluginError: a distribution that the run requires is missing or of another version.
    """
    text: str | None = None
    if isinstance(run, (str, Path)):
        path = Path(run)
        where, data = str(path), read_toml(path)
        base = path.resolve().parent if base is None else base
        text = path.read_text(encoding="utf-8") if not overrides and seed is None else None
    else:
        where = "run"
        data = run.model_dump(mode="json", by_alias=True) if isinstance(run, RunConfig) else _copy(run)
    apply_overrides(data, overrides)
    if seed is not None:
        data["seed"] = seed
    config = parse_run(data, where=where)
    host.require(config.plugins.require)
    plan = resolve(config, host.registry, base=(base or Path()).resolve(), where=where)
    found = host.check_config(plan.config)
    if found:
        raise UsageError("\n".join(f"{where}: {problem.path}: {problem.message}" for problem in found))
    if text is None:
        import tomli_w

        text = tomli_w.dumps(without_none(data))
    return Launch(plan, text)


def _copy(value: Any) -> Any:
    """Tables and lists that may be changed, whatever the caller keeps."""
    if isinstance(value, Mapping):
        return {str(key): _copy(one) for key, one in value.items()}
    return [_copy(one) for one in value] if isinstance(value, (list, tuple)) else value


def reopen(path: Path | str, host: Host, *, compute: Mapping[str, Any] | None = None) -> tuple[Plan, RunFolder]:
    """The plan and folder of a run that was started, to resume or to evaluate it; only its resolved file is read.

    Args:
        path: the run's folder.
        host: plugins.
        compute: options of ``[compute]`` to change, such as the device.
    """
    folder = RunFolder.open(Path(path))
    plan = load_resolved(folder.resolved, host.registry)
    if compute:
        changed = type(plan.config.compute).model_validate(plan.config.compute.model_dump() | dict(compute))
        plan = replace(plan, config=plan.config.model_copy(update={"compute": changed}))
    return plan, folder


def unfinished(root: Path | str, name: str, seed: int) -> Path:
    """The newest run of a name and seed that did not finish.

    Raises:
        UsageError: there is none.
    """
    for folder in reversed(list_runs(Path(root))):
        if folder.path.name.startswith(f"{name}-s{seed}-") and folder.state != "finished":
            return folder.path
    raise UsageError(f"{root}: no run of '{name}' with seed {seed} is left to resume; `embedkit runs` lists what there is")


def trial(plan: Plan, host: Host, *, log: Callable[[str], Any] = lambda line: None) -> None:
    """Run one step of every train stage on two rows a stream, in a folder that is thrown away: what only data and torch can tell.

    The tables are read and the codecs fitted as for a run; nothing is evaluated. Stages with a loop of their own are left out.

    Raises:
        UsageError, DataError, PluginError: what a run would raise.
    """
    from embedkit.training.run import train_run

    stages = []
    for part in plan.stages:
        if isinstance(part.config, TrainConfig):
            streams = {name: _tried(stream) for name, stream in part.config.streams.items()}
            short = {"steps": 1, "epochs": None, "streams": streams, "validate_": None}
            stages.append(replace(part, config=part.config.model_copy(update=short)))
        else:
            log(f"{part.entry.qualified} has a loop of its own and is not tried")
    with tempfile.TemporaryDirectory(prefix="embedkit-trial-") as root:
        small = replace(plan, stages=tuple(stages), evaluators=())
        train_run(small, Launch(small, "").create_folder(root), host, log=log, curve=False)


def _tried(stream: StreamConfig) -> StreamConfig:
    """The stream as a trial draws from it: two rows, and without groups that a stage would make which is not tried."""
    if stream.groups is not None and stream.groups.stage is not None:
        return StreamConfig(table=stream.table, rows=stream.rows, size=2)
    return stream.model_copy(update={"size": 2})
