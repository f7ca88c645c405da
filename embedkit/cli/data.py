"""``embedkit data``: data sets with cards, prepared on the spot or fetched from their source."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from embedkit.cli.render import json_option, printer, show_json, show_pairs, show_table, size_of
from embedkit.cli.state import State, pass_state

if TYPE_CHECKING:
    from embedkit.data.dataset import Dataset


def dataset(state: State, name: str) -> Dataset:
    """A data set by registered name."""
    entry = state.registry.entry("dataset", name)
    return cast("Dataset", entry.create(entry.parse({}, where=f"data set '{name}'"), context=None))


@click.group("data")
def command() -> None:
    """List, describe and prepare data sets."""


@command.command("list")
@json_option
@pass_state
def list_(state: State, as_json: bool) -> None:
    """List data sets."""
    cards = [dataset(state, entry.qualified).card for entry in state.registry.entries("dataset")]
    if as_json:
        show_json([dataclasses.asdict(card) for card in cards])
        return
    show_table(("name", "what it is", "licence"), [(card.name, card.title, card.licence) for card in cards], empty="no data sets")


@command.command("info")
@click.argument("name")
@json_option
@pass_state
def info(state: State, name: str, as_json: bool) -> None:
    """Print a data set's card: what it is, licence, citation, source, checksums."""
    card = dataset(state, name).card
    if as_json:
        show_json(dataclasses.asdict(card))
        return
    click.echo(f"{card.name}: {card.title}\n\n{card.description}\n")
    for title, value in (("Licence", card.licence), ("Citation", card.citation), ("Source", card.source)):
        click.echo(f"{title}: {value}")
    if card.tables:
        click.echo("\nTables")
        show_pairs({f"  {key}": value for key, value in card.tables.items()})
    if card.checksums:
        click.echo("\nChecksums")
        show_pairs({f"  {key}": value for key, value in card.checksums.items()})


@command.command("get")
@click.argument("name")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to write to.")
@click.option("--from", "prepared", type=click.Path(path_type=Path), help="Folder with prepared copies, in place of a download.")
@json_option
@pass_state
def get(state: State, name: str, out: Path, prepared: Path | None, as_json: bool) -> None:
    """Prepare a data set: Parquet tables and a run file that trains on them."""
    done = dataset(state, name).prepare(out, prepared=prepared, log=printer())
    if as_json:
        tables = {table: {"file": file, "rows": rows} for table, (file, rows) in done.tables.items()}
        show_json({"tables": tables, "run_file": done.run_file})
        return
    show_table(
        ("table", "file", "rows", "size"),
        [(table, str(file), rows, size_of(file.stat().st_size)) for table, (file, rows) in done.tables.items()],
    )
    click.echo(f"next: embedkit train {done.run_file}")
