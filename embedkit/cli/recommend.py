"""``embedkit recommend``: the best items of every user, as a table."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import click

from embedkit.cli.options import out_option, read_options, search_options
from embedkit.cli.render import json_option, printer, show_json, show_pairs
from embedkit.cli.state import State, pass_state


@click.command("recommend")
@click.argument("index", type=click.Path(path_type=Path))
@out_option
@click.option("-k", type=click.IntRange(min=1), default=10, show_default=True, help="Items a user.")
@click.option("--include-seen", is_flag=True, help="Recommend items that the user has met, too.")
@click.option("--tower", help="Tower that stands for users; needed when there are several beside the items'.")
@click.option("--events", help="Table of events; needed when there are several.")
@click.option("--where", help="Only items for which this is true, in SQL.")
@click.option("--bundle", type=click.Path(path_type=Path), help="Bundle that encodes users, when it was moved.")
@search_options
@json_option
@pass_state
def command(
    state: State,
    /,
    index: Path,
    out: Path,
    k: int,
    include_seen: bool,
    bundle: Path | None,
    options: tuple[str, ...],
    as_json: bool,
    **rest: Any,
) -> None:
    """Write the best items of every user to a Parquet file: user, rank, item, score; and say what they are like.

    Users and what they did are read from the tables of the run that made the vectors in INDEX.
    """
    from embedkit import api

    searcher = api.open_index(index, bundle, options=read_options(options), host=state.host)
    found = api.recommend(searcher, out, k=k, exclude_seen=not include_seen, log=printer(), **rest)
    figures = {name: None if value != value else value for name, value in dataclasses.asdict(found).items()}  # NaN differs from itself
    if as_json:
        show_json({"out": out, **figures})
        return
    show_pairs({"rows": figures.pop("rows"), "in": str(out), **figures})
