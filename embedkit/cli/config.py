"""``embedkit config``: check run files, print what may stand in them."""

from __future__ import annotations

from pathlib import Path

import click

from embedkit.cli.options import set_option
from embedkit.cli.render import json_option, printer, show_json, show_pairs, show_table
from embedkit.cli.state import State, pass_state


@click.group("config")
def command() -> None:
    """Check run files; print their schema."""


@command.command("check")
@click.argument("run", type=click.Path(path_type=Path))
@set_option
@click.option(
    "--step", is_flag=True, help="Also read the data and train a step of every stage on a few rows, in a folder that is thrown away."
)
@click.option("--resolved", is_flag=True, help="Print the run file with every default.")
@json_option
@pass_state
def check(state: State, run: Path, overrides: tuple[str, ...], step: bool, resolved: bool, as_json: bool) -> None:
    """Say everything that is wrong with RUN, or what it means. Reads no data and needs no torch unless --step is given."""
    from embedkit.config.resolve import dump_resolved
    from embedkit.launch import prepare, trial

    plan = prepare(run, state.host, overrides=overrides).plan
    if step:
        trial(plan, state.host, log=printer())
    if resolved:
        click.echo(dump_resolved(plan), nl=False)
        return
    schema = plan.schema
    if as_json:
        show_json({"name": plan.config.name, "model": plan.model.to_json(), "stages": [part.to_json() for part in plan.stages]})
        return
    encoder = {field: part.entry.name for part in plan.model.encoders for field in part.fields}
    fields = [(f.name, f.type, f.table, f.column or "(history)", f.domain, encoder.get(f.name)) for f in schema.fields.values()]
    show_table(("field", "type", "table", "column", "domain", "encoder"), fields)
    click.echo()
    towers = [
        (t.name, t.table, plan.model.trunks[t.name].entry.name, plan.model.heads[t.name].entry.name, ", ".join(t.fields))
        for t in schema.towers.values()
    ]
    show_table(("tower", "over", "trunk", "head", "fields"), towers)
    click.echo()
    stages = [
        f"{part.entry.name} ({', '.join(loss['use'].split(':')[-1] for loss in part.to_json()['options'].get('losses', []))})"
        for part in plan.stages
    ]
    show_pairs(
        {
            "stages": stages or "none",
            "evaluate": [p.entry.name for p in plan.evaluators] or "none",
            "index": plan.index.entry.name,
            "seed": plan.config.seed,
        }
    )
    click.echo(f"\n{run} is well")


@command.command("schema")
@pass_state
def schema(state: State) -> None:
    """Print the JSON Schema of run files, with the options of every component there is, for editors."""
    from embedkit.config.schema_json import run_schema

    show_json(run_schema(state.registry))
