"""``embedkit recommend``: the best items of every user, as a table."""

from __future__ import annotations

from pathlib import Path

import click

from embedkit.cli.options import out_option
from embedkit.cli.render import json_option, printer, show_json, show_pairs
from embedkit.cli.state import State, pass_state


@click.command("recommend")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("index", type=click.Path(path_type=Path))
@out_option
@click.option("-k", type=click.IntRange(min=1), default=10, show_default=True, help="Items a user.")
@click.option("--include-seen", is_flag=True, help="Recommend items that the user has met, too.")
@click.option("--tower", help="Tower that stands for users; needed when there are several beside the items'.")
@click.option("--events", help="Table of events; needed when there are several.")
@click.option("--where", help="Only items for which this is true, in SQL.")
@json_option
@pass_state
def command(
    state: State,
    bundle: Path,
    index: Path,
    out: Path,
    k: int,
    include_seen: bool,
    tower: str | None,
    events: str | None,
    where: str | None,
    as_json: bool,
) -> None:
    """Write the best items of every user to a Parquet file: user, rank, item, score.

    BUNDLE (its folder, or a run's) encodes what every user did in the tables of its run file; INDEX holds the items.
    """
    from embedkit.bundle import RUN, find_bundle
    from embedkit.config.resolve import load_resolved
    from embedkit.data.store import Store
    from embedkit.serve.query import Searcher
    from embedkit.serve.tables import recommend

    folder = find_bundle(bundle)
    searcher = Searcher.open(index, state.registry, bundle=folder)
    log = printer()
    store = Store.open(load_resolved(folder / RUN, state.registry), log=log)
    rows = recommend(searcher, store, out, k=k, exclude_seen=not include_seen, tower=tower, events=events, where=where, log=log)
    if as_json:
        show_json({"out": out, "rows": rows})
        return
    show_pairs({"rows": rows, "in": str(out)})
