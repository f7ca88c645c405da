"""RunFolder: where everything about one run lies. The layout is fixed; nothing else guesses a file's name.

::

    runs/<name>-s<seed>-<number>/
        run.toml             the run file as it was given, overrides applied
        run.resolved.toml    the same with every default; what resume, compare and bundles read
        status.json          running, finished, failed or interrupted; when, and why
        log.txt              what the run said, resumed ones below
        metrics.jsonl        one JSON object a line
        curve.png            the training curve
        checkpoints/         what a resume starts from
        bundle/              the trained model
        evaluation.json      figures with intervals
        queries-<split>.parquet   figures a query, for paired comparisons
        report.html          the page that `embedkit report` writes
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from embedkit.errors import EmbedkitError, UsageError
from embedkit.files import atomic_write, make_folder

State = Literal["running", "finished", "failed", "interrupted"]

_NAME = re.compile(r"^(?P<name>.+)-s(?P<seed>\d+)-(?P<number>\d{3,})$")


@dataclass(frozen=True)
class RunFolder:
    """A run's folder. Make one with ``create``, or open one that is there with ``open``."""

    path: Path
    made_root: bool = field(default=False, compare=False, repr=False)
    """Whether the folder of runs was made for this one."""

    @classmethod
    def create(cls, root: Path, name: str, seed: int) -> RunFolder:
        """Make the next free folder for a run's name and seed.

        Raises:
            UsageError: it cannot be written.
            DataError: the disk is full.
        """
        root = Path(root)
        made_root = not root.exists()
        make_folder(root)
        stem = f"{name}-s{seed}"
        taken = [int(m["number"]) for p in root.iterdir() if (m := _NAME.match(p.name)) and p.name.startswith(f"{stem}-")]
        number = max(taken, default=0) + 1
        while True:
            path = root / f"{stem}-{number:03d}"
            try:
                path.mkdir()
            except FileExistsError:  # another process took this number
                number += 1
                continue
            return cls(path, made_root)

    def discard(self) -> None:
        """Remove the folder and all that is in it, and the folder of runs if it was made for this one and is empty again."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self.made_root:
            with suppress(OSError):  # another run lies there by now
                self.path.parent.rmdir()

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Open the folder of a run.

        Raises:
            UsageError: there is none.
        """
        path = Path(path)
        if path.is_file() and path.name in ("run.toml", "run.resolved.toml"):
            path = path.parent
        if not path.is_dir():
            raise UsageError(f"{path}: there is no such run folder; `embedkit runs` lists them")
        if not (path / "status.json").is_file():
            raise UsageError(f"{path}: is no run folder (it has no status.json); `embedkit runs` lists them")
        return cls(path)

    @property
    def run(self) -> Path:
        """The run file as it was given."""
        return self.path / "run.toml"

    @property
    def resolved(self) -> Path:
        """The run file with every default."""
        return self.path / "run.resolved.toml"

    @property
    def status(self) -> Path:
        """State, times and cause, JSON."""
        return self.path / "status.json"

    @property
    def log(self) -> Path:
        """What the run said."""
        return self.path / "log.txt"

    @property
    def metrics(self) -> Path:
        """Metrics, one JSON object a line."""
        return self.path / "metrics.jsonl"

    @property
    def curve(self) -> Path:
        """The training curve, PNG."""
        return self.path / "curve.png"

    @property
    def checkpoints(self) -> Path:
        """Folder of checkpoints."""
        return self.path / "checkpoints"

    @property
    def bundle(self) -> Path:
        """Folder of the trained bundle."""
        return self.path / "bundle"

    @property
    def evaluation(self) -> Path:
        """Figures with intervals, JSON."""
        return self.path / "evaluation.json"

    @property
    def report(self) -> Path:
        """The page that ``embedkit report`` writes."""
        return self.path / "report.html"

    def queries(self, split: str) -> Path:
        """Figures a query of a split, Parquet."""
        return self.path / f"queries-{split}.parquet"

    # ------------------------------------------------------------------ state

    def read_status(self) -> dict[str, Any]:
        """What ``status.json`` says; a run that says ``running`` while its process is gone is ``interrupted``.

        Raises:
            UsageError: the file is not there or damaged.
        """
        try:
            found = json.loads(self.status.read_text())
        except FileNotFoundError:
            raise UsageError(f"{self.status}: there is no such file, so this is no run folder") from None
        except ValueError:
            raise UsageError(f"{self.status}: is no JSON; remove the folder or write the file anew") from None
        status: dict[str, Any] = found
        if status.get("state") == "running" and not _alive(status):
            status["state"] = "interrupted"
        return status

    @property
    def state(self) -> State:
        """State of the run."""
        state: State = self.read_status()["state"]
        return state

    def set_status(self, state: State, **facts: Any) -> None:
        """Write the state, keeping what earlier states said; ``facts`` are JSON values such as ``error`` or ``step``."""
        status = json.loads(self.status.read_text()) if self.status.is_file() else {"started": now()}
        for stale in ("error", "finished"):
            status.pop(stale, None)
        status |= {"state": state, "updated": now(), "pid": os.getpid(), "machine": platform.node(), **facts}
        if state != "running":
            status["finished"] = status["updated"]
        atomic_write(self.status, json.dumps(status, indent=1) + "\n")

    @contextmanager
    def running(self) -> Iterator[None]:
        """Keep ``status.json`` right around a run: running, then finished, failed (with the cause) or interrupted.

        Raises:
            UsageError: another process is running in this folder.
        """
        if self.status.is_file():
            status = self.read_status()
            if status["state"] == "running" and status.get("pid") != os.getpid():
                raise UsageError(f"{self.path}: process {status['pid']} is running this run; wait for it or stop it")
        self.set_status("running")
        try:
            yield
        except KeyboardInterrupt:
            self.set_status("interrupted")
            raise
        except EmbedkitError as error:
            self.set_status("failed", error=str(error))
            raise
        except BaseException as error:
            self.set_status("failed", error=f"{type(error).__name__}: {error}")
            raise
        self.set_status("finished")


def _alive(status: dict[str, Any]) -> bool:
    """Whether the process of a status is still there; of a process on another machine one cannot know, so it counts as alive."""
    if status.get("machine") != platform.node():
        return True
    try:
        os.kill(int(status["pid"]), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def now() -> str:
    """The time, as a run's files say it: UTC to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def list_runs(root: Path) -> list[RunFolder]:
    """The run folders under a root, the oldest first; other folders are passed over."""
    root = Path(root)
    if not root.is_dir():
        return []
    folders = [RunFolder(path) for path in root.iterdir() if (path / "status.json").is_file()]
    return sorted(folders, key=lambda folder: (folder.read_status().get("started", ""), folder.path.name))
