"""``embedkit runs``: the runs there are, and how they stand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from embedkit.cli.render import json_option, show_json, show_table
from embedkit.runs import RunFolder, list_runs


@click.command("runs")
@click.option("--runs-dir", type=click.Path(path_type=Path), default="runs", show_default=True, help="Folder of runs.")
@json_option
def command(runs_dir: Path, as_json: bool) -> None:
    """List runs, the oldest first: state, when, figures."""
    found = [_describe(folder) for folder in list_runs(runs_dir)]
    if as_json:
        show_json(found)
        return
    rows = [(run["run"], run["state"], run["started"], run["figures"] or run["error"]) for run in found]
    show_table(("run", "state", "started", "figures, or why it failed"), rows, empty=f"no runs in {runs_dir}")


def _describe(folder: RunFolder) -> dict[str, Any]:
    status = folder.read_status()
    return {
        "run": str(folder.path),
        "state": status["state"],
        "started": status.get("started"),
        "finished": status.get("finished"),
        "error": status.get("error"),
        "figures": _figures(folder),
    }


def _figures(folder: RunFolder) -> str | None:
    """The model's figures without slices, as one line; those of the test split first."""
    if not folder.evaluation.is_file():
        return None
    written = json.loads(folder.evaluation.read_text())
    estimates = written["estimates"] if isinstance(written, dict) else written
    ours = [e for e in estimates if e.get("model") == "model" and e.get("slice") is None and e.get("prefix") is None]
    found = []
    for split in ("test", "valid"):
        figures = [f"{e['metric']} {e['value']:.4f}" for e in ours if e["split"] == split and e["value"] is not None][:6]
        found += [f"{split}: {', '.join(figures)}"] if figures else []
    return "; ".join(found) or None
