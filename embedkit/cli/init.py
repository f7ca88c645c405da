"""``embedkit init``: a working run file from tables."""

from __future__ import annotations

from pathlib import Path

import click

from embedkit.cli.state import State, pass_state


@click.command("init")
@click.argument("tables", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), default="run.toml", show_default=True, help="The run file to write.")
@click.option("--name", help="Name of the run; the folder's name when left out.")
@click.option("--force", is_flag=True, help="Overwrite a file that is there.")
@click.option("--ssl", is_flag=True, help="Learn vectors of the rows of one table without labels, whatever its columns are called.")
@click.option("--label", metavar="COLUMN", help="With --ssl: a column that no vector may know of and that a probe predicts from them.")
@pass_state
def command(state: State, tables: tuple[Path, ...], out: Path, name: str | None, force: bool, ssl: bool, label: str | None) -> None:
    """Write a run file inferred from TABLES: Parquet or CSV files of items, events and users.

    With events, a model learns which item a user takes next; with items alone, to know an item by half of its columns; with --ssl, to
    tell hidden cells of a row from the others (with texts, lists or more than 64 columns: to know a row again when cells are swapped).
    """
    from embedkit.config.starter import write_starter

    write_starter(tables, out, state.registry, name=name, force=force, ssl=ssl, label=label)
    click.echo(f"wrote {out}")
    click.echo(f"next: embedkit config check {out} && embedkit train {out}")
