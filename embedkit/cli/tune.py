"""``embedkit tune``: try options of a run file, each trial judged on the validation rows alone."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal

import click

from embedkit.cli.options import compute_options, given, set_option
from embedkit.cli.render import json_option, printer, show_json, show_table
from embedkit.cli.state import State, pass_state


@click.command("tune")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--space", type=click.Path(path_type=Path), required=True, help="TOML file: option = list of values, or { low, high }.")
@click.option("--trials", type=click.IntRange(min=1), help="Trials in all, those of earlier calls counted; a grid has all of its own.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the tuning; the same call goes on with it.")
@click.option("--sampler", type=click.Choice(["tpe", "random", "grid"]), default="tpe", show_default=True, help="How options are chosen.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the choice; the run's own seed stays.")
@click.option("--prune", is_flag=True, help="End trials that are worse than the median of earlier ones at the same step.")
@click.option("--keep", type=click.Choice(["best", "all"]), default="best", show_default=True, help="Whose weights to keep.")
@set_option
@compute_options
@json_option
@pass_state
def command(
    state: State,
    /,
    run: Path,
    space: Path,
    trials: int | None,
    out: Path,
    sampler: Literal["tpe", "random", "grid"],
    seed: int,
    prune: bool,
    keep: Literal["best", "all"],
    overrides: tuple[str, ...],
    as_json: bool,
    **compute: Any,
) -> None:
    """Tune the file RUN: train it with options from a space, keep the best by its validation metric. Test rows are not looked at.

    A tuning that was stopped or killed goes on when it is called again; more --trials add to it.
    """
    from embedkit import api
    from embedkit.tuning.trials import short_names

    result = api.tune(
        run,
        space,
        out,
        trials=trials,
        sampler=sampler,
        seed=seed,
        prune=prune,
        keep=keep,
        overrides=[*overrides, *(f"compute.{key}={value}" for key, value in given(**compute).items())],
        host=state.host,
        log=printer(),
    )
    if as_json:
        show_json(dataclasses.asdict(result) | {"best_run": result.best_run, "table": result.table})
        return
    names = short_names(list(result.best.options))
    rows = [
        (trial.number, trial.state, trial.value, *(trial.options.get(key) for key in names), round(trial.seconds))
        for trial in sorted(result.trials, key=lambda trial: (trial.number != result.best.number, trial.number))
    ]
    show_table(("trial", "state", result.metric, *names.values(), "seconds"), rows, title="validation rows, the best trial first")
    click.echo(f"\nbest run file: {result.best_run}")
    click.echo(f"next: embedkit train {result.best_run}, or embedkit evaluate {result.best.run} for its figures on the test rows")
