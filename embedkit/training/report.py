"""Report: metrics as JSON lines, progress for people, and the log that a run keeps."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from embedkit.files import write_errors


class Progress(Protocol):
    """Shows how far a stage is."""

    def update(self, step: int, text: str) -> None:
        """The stage has done ``step`` steps; ``text`` says how it goes."""

    def line(self, text: str) -> None:
        """Say something once."""

    def close(self) -> None:
        """The stage has ended."""


class RunLog:
    """A run's ``log.txt``: every line that the run says to people, kept as it is said. A resumed run writes on at its end.

    Args:
        path: the file; made when the first line comes.
        say: shows a line to people.
    """

    def __init__(self, path: Path, say: Callable[[str], Any]) -> None:
        self._path, self._say = path, say

    def __call__(self, line: str) -> None:
        """Keep a line and show it."""
        self.keep(line)
        self._say(line)

    def keep(self, line: str) -> None:
        """Write a line without showing it, in one piece."""
        with write_errors(self._path), self._path.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")


class Lines:
    """Plain lines, where there is no terminal."""

    def __init__(self, log: Callable[[str], Any], name: str, total: int) -> None:
        self._log, self._name, self._total = log, name, total

    def update(self, step: int, text: str) -> None:
        """One line."""
        self._log(_step_line(self._name, step, self._total, text))

    def line(self, text: str) -> None:
        """One line."""
        self._log(text)

    def close(self) -> None:
        """Nothing is open."""


class Bar:
    """A bar on a terminal, with lines above it; the lines that it stands for are kept."""

    def __init__(self, log: Callable[[str], Any], keep: Callable[[str], Any], name: str, total: int, start: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self._log, self._keep, self._name, self._total = log, keep, name, total
        self._progress = Progress(  # what is printed meanwhile appears above it
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[text]}"),
            console=Console(stderr=True),
        )
        self._task = self._progress.add_task(name, total=total, completed=start, text="")
        self._progress.start()

    def update(self, step: int, text: str) -> None:
        """Move the bar."""
        self._keep(_step_line(self._name, step, self._total, text))
        self._progress.update(self._task, completed=step, text=text)

    def line(self, text: str) -> None:
        """One line above the bar."""
        self._log(text)

    def close(self) -> None:
        """Leave the bar as it is."""
        self._progress.stop()


def make_progress(
    log: Callable[[str], Any], keep: Callable[[str], Any], name: str, total: int, start: int, *, quiet: bool = False
) -> Progress:
    """A bar on a terminal, plain lines otherwise, and where ``quiet`` (a process beside the one that speaks).

    Args:
        log: shows a line and keeps it.
        keep: keeps a line alone.
        name: of the stage.
        total: steps of the stage.
        start: steps that are done.
        quiet: no bar.
    """
    if not quiet and sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        return Bar(log, keep, name, total, start)
    return Lines(log, name, total)


def _step_line(name: str, step: int, total: int, text: str) -> str:
    return f"{name} step {step}/{total}  {text}"


class MetricsFile:
    """``metrics.jsonl``: one JSON object a line, cut back to where a checkpoint left it on resume."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, record: Mapping[str, Any]) -> None:
        """Write one line, with the time (UTC, ISO 8601) at its end, and hand it to the system at once."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({**record, "time": now}, allow_nan=False) + "\n")

    @property
    def size(self) -> int:
        """Bytes so far."""
        return self.path.stat().st_size if self.path.exists() else 0

    def cut(self, size: int) -> None:
        """Drop what was written after ``size`` bytes."""
        if self.size > size:
            with self.path.open("r+b") as file:
                file.truncate(size)

    def cut_stage(self, stage: str) -> None:
        """Drop the lines of a stage, and what follows them: it starts anew."""
        size = 0
        for line in self.path.read_bytes().splitlines(keepends=True) if self.path.exists() else ():
            if not line.endswith(b"\n") or json.loads(line)["stage"] == stage:
                break
            size += len(line)
        self.cut(size)

    def records(self) -> list[dict[str, Any]]:
        """All whole lines."""
        if not self.path.exists():
            return []
        lines = self.path.read_text(encoding="utf-8").split("\n")[:-1]
        return [json.loads(line) for line in lines]


def summary(losses: Mapping[str, float], rows_per_second: float) -> str:
    """What a line says of a step: the loss, its parts when there are several, and the pace."""
    names = [name for name in losses if name != "loss" and "/" not in name]
    parts = [f"loss {losses['loss']:.4f}"]
    if len(names) > 1:
        parts += [f"{name} {losses[name]:.4f}" for name in names]
    return "  ".join([*parts, f"{rows_per_second:,.0f} rows/s"])
