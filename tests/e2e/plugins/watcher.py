"""A one-file plugin with every hook: it writes down which one was called, and with what."""

import json
import os
from pathlib import Path

import click

from embedkit import hookimpl
from embedkit.host import Problem


def note(hook, **facts):
    """One line of JSON in the file that WATCHED names."""
    with Path(os.environ["WATCHED"]).open("a") as out:
        out.write(json.dumps({"hook": hook, **facts}) + "\n")


@hookimpl
def register_field_types(register):
    note("register_field_types")


@hookimpl
def register_encoders(register):
    note("register_encoders")


@hookimpl
def register_trunks(register):
    note("register_trunks")


@hookimpl
def register_heads(register):
    note("register_heads")


@hookimpl
def register_augmentations(register):
    note("register_augmentations")


@hookimpl
def register_losses(register):
    note("register_losses")


@hookimpl
def register_samplers(register):
    note("register_samplers")


@hookimpl
def register_optimizers(register):
    note("register_optimizers")


@hookimpl
def register_stages(register):
    note("register_stages")


@hookimpl
def register_evaluators(register):
    note("register_evaluators")


@hookimpl
def register_indexes(register):
    note("register_indexes")


@hookimpl
def register_datasets(register):
    note("register_datasets")


@hookimpl
def register_commands(cli):
    note("register_commands")

    @cli.command("greet")
    def greet():
        """Say hello."""
        click.echo("hello")


@hookimpl
def check_config(config, registry):
    note("check_config", name=config.name, losses=[entry.name for entry in registry.entries("loss")])
    if config.name == "unlucky":
        yield Problem("name", "brings bad luck; choose another")
        yield Problem("seed", "so does this")


@hookimpl
def step_reported(report):
    note("step_reported", step=report["step"], losses=sorted(report["losses"]))


@hookimpl
def stage_finished(stage, result):
    note("stage_finished", stage=stage, steps=result.steps)


@hookimpl
def run_finished(run, error):
    note("run_finished", run=run.path.name, error=None if error is None else str(error))
