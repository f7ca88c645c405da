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
    import torch

    from embedkit.bundle import load_bundle
    from embedkit.cli.figures import show_estimates
    from embedkit.data.store import Store
    from embedkit.evaluate.run import evaluate_run, write_evaluation
    from embedkit.launch import reopen
    from embedkit.train.compute import autocast_type, set_up

    plan, folder = reopen(rundir, state.host, compute=given(**compute))
    device = set_up(plan.config.compute)
    bundle = load_bundle(folder.bundle, state.registry)
    store = Store.open(plan, log=printer())
    store.use(bundle.codecs)
    precision = autocast_type(plan.config.compute) or torch.float32
    estimates = evaluate_run(plan, bundle.model.to(device), store, split=split, folder=folder, device=device, precision=precision)
    write_evaluation(folder, estimates, plan=plan, split=split)
    if as_json:
        show_json([dataclasses.asdict(estimate) for estimate in estimates])
        return
    show_estimates(estimates, split=split, every=every)
