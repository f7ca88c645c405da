"""``embedkit evaluate``: measure a trained run again, or on its other split."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal

import click

from embedkit.cli.options import compute_options, given
from embedkit.cli.render import json_option, printer, show_json
from embedkit.cli.state import State, pass_state


@click.command("evaluate")
@click.argument("rundir", type=click.Path(path_type=Path))
@click.option("--split", type=click.Choice(["valid", "test"]), default="test", show_default=True, help="Rows to measure on.")
@click.option("--all", "every", is_flag=True, help="Print every figure of every slice.")
@compute_options
@json_option
@pass_state
def command(state: State, /, rundir: Path, split: Literal["valid", "test"], every: bool, as_json: bool, **compute: Any) -> None:
    """Measure the bundle of the run in RUNDIR, beside baselines, with 95% intervals; evaluation.json is brought up to date."""
    from embedkit import api
    from embedkit.cli.figures import show_estimates

    estimates = api.evaluate(rundir, split=split, compute=given(**compute), host=state.host, log=printer())
    if as_json:
        show_json([dataclasses.asdict(estimate) for estimate in estimates])
        return
    show_estimates(estimates, split=split, every=every)
