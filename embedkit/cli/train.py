"""``embedkit train``: run a run file, or go on with a run that stopped."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from embedkit.cli.options import compute_options, given, runs_dir_option, set_option
from embedkit.cli.render import json_option, printer, show_json
from embedkit.cli.state import State, pass_state

if TYPE_CHECKING:
    from embedkit.config.plan import Plan
    from embedkit.runs import RunFolder

_NEWEST = "(the newest)"


@click.command("train")
@click.argument("run", required=False, type=click.Path(path_type=Path))
@click.option(
    "--resume",
    is_flag=False,
    flag_value=_NEWEST,
    metavar="[RUNDIR]",
    help="Go on with a run folder, or with the newest unfinished run of RUN.",
)
@set_option
@click.option("--seeds", type=click.IntRange(min=1), default=1, help="Train so many times, with the seeds that follow the run's.")
@runs_dir_option
@compute_options
@json_option
@pass_state
def command(
    state: State,
    /,
    run: Path | None,
    resume: str | None,
    overrides: tuple[str, ...],
    seeds: int,
    runs_dir: Path,
    as_json: bool,
    **compute: Any,
) -> None:
    """Train a model as the file RUN says, evaluate it beside the baselines, and write a bundle.

    Everything is kept in a folder of its own under --runs-dir; a run that was stopped or killed goes on with --resume, bit for bit.
    """
    from embedkit.launch import together

    with together():
        _run(state, run, resume, overrides, seeds, runs_dir, given(**compute), as_json)


def _run(
    state: State,
    run: Path | None,
    resume: str | None,
    overrides: tuple[str, ...],
    seeds: int,
    runs_dir: Path,
    changes: dict[str, Any],
    as_json: bool,
) -> None:
    from embedkit.launch import prepare, reopen, unfinished

    if resume is not None and resume != _NEWEST and Path(resume).is_file() and run is None:
        run, resume = Path(resume), _NEWEST  # `train --resume run.toml`: the value is the run file
    if resume is not None:
        if overrides or seeds > 1:
            raise click.UsageError("a resumed run is the run that was started: leave --set and --seeds out")
        if resume == _NEWEST:
            if run is None:
                raise click.UsageError("name the run file, or the run's folder: embedkit train --resume runs/NAME")
            config = prepare(run, state.host).plan.config
            resume = str(unfinished(runs_dir, config.name, config.seed))
        plan, folder = reopen(resume, state.host, compute=changes)
        _finish([_train(state, plan, folder, resume=True)], as_json)
        return
    if run is None:
        raise click.UsageError("name a run file; `embedkit init TABLES…` writes one")
    settings = [*overrides, *(f"compute.{key}={value}" for key, value in changes.items())]
    first = prepare(run, state.host, overrides=settings)
    done = []
    for i in range(seeds):
        launch = first if i == 0 else prepare(run, state.host, overrides=settings, seed=first.plan.config.seed + i)
        folder = launch.create_folder(runs_dir)
        done.append(_train(state, launch.plan, folder, resume=False))
    _finish(done, as_json)


def _train(state: State, plan: Plan, folder: RunFolder, *, resume: bool) -> RunFolder:
    """Train one run and return its folder."""
    from embedkit.training.distributed import first
    from embedkit.training.run import train_run

    log = printer() if first() else lambda line: None
    log(f"{'resuming' if resume else 'training'} {plan.config.name} (seed {plan.config.seed}) in {folder.path}")
    train_run(plan, folder, state.host, resume=resume, log=log)
    return folder


def _finish(folders: list[RunFolder], as_json: bool) -> None:
    from embedkit.cli.figures import show_evaluation
    from embedkit.evaluate.run import read_evaluation
    from embedkit.training.distributed import first

    if not first():
        return

    if as_json:
        show_json(
            [
                {
                    "run": folder.path,
                    "bundle": folder.bundle,
                    "estimates": read_evaluation(folder)["estimates"] if folder.evaluation.is_file() else [],
                }
                for folder in folders
            ]
        )
        return
    for folder in folders:
        show_evaluation(folder)
        click.echo(f"\nbundle: {folder.bundle}")
    click.echo(f"next: embedkit embed {folders[-1].bundle} TABLE --out DIR")
