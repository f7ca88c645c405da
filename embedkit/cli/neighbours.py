"""``embedkit neighbours``: the nearest items of every item, as a table."""

from __future__ import annotations

from pathlib import Path

import click

from embedkit.cli.options import out_option, read_options, search_options
from embedkit.cli.render import json_option, printer, show_json, show_pairs
from embedkit.cli.state import State, pass_state


@click.command("neighbours")
@click.argument("index", type=click.Path(path_type=Path))
@click.option("--all", "every", is_flag=True, required=True, help="Of every item (`embedkit search --id` answers for single ones).")
@out_option
@click.option("-k", type=click.IntRange(min=1), default=10, show_default=True, help="Neighbours of an item.")
@click.option("--where", help="Only neighbours for which this is true, in SQL.")
@search_options
@json_option
@pass_state
def command(
    state: State, /, index: Path, every: bool, out: Path, k: int, where: str | None, options: tuple[str, ...], as_json: bool
) -> None:
    """Write the nearest items of every item in INDEX to a Parquet file: id, rank, neighbour, score."""
    from embedkit import api

    searcher = api.open_index(index, options=read_options(options), host=state.host)
    rows = api.neighbours(searcher, out, k=k, where=where, log=printer())
    if as_json:
        show_json({"out": out, "rows": rows})
        return
    show_pairs({"rows": rows, "in": str(out)})
