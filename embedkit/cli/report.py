"""``embedkit report``: one page about a run."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from embedkit.cli.render import json_option, printer, show_json, show_pairs
from embedkit.cli.state import State, pass_state


@click.command("report")
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Page to write; report.html in the first run's folder when left out.")
@click.option("--split", type=click.Choice(["valid", "test"]), default="test", show_default=True, help="Rows they were measured on.")
@click.option("--items", type=click.IntRange(min=3), default=5000, show_default=True, help="Items on the map, at most.")
@click.option("--users", type=click.IntRange(min=1), default=2000, show_default=True, help="Users asked for their confidence, at most.")
@json_option
@pass_state
def command(
    state: State, runs: tuple[Path, ...], out: Path | None, split: Literal["valid", "test"], items: int, users: int, as_json: bool
) -> None:
    """Write a page about the first of RUNS: curves, figures beside baselines, slices, a map of the items, users by confidence.

    The page is one HTML file that needs nothing else. Further RUNS are points where quality is drawn against the bytes of the tables.
    """
    from embedkit import api

    page = api.report(runs, out, split=split, items=items, users=users, host=state.host, log=printer())
    if as_json:
        show_json({"page": page})
        return
    show_pairs({"page": str(page)})
