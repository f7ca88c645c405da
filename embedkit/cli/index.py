"""``embedkit index``: vectors → a nearest-neighbour index."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from embedkit.cli.options import given, out_option, read_options
from embedkit.cli.render import json_option, printer, show_json, show_pairs
from embedkit.cli.state import State, pass_state


@click.command("index")
@click.argument("embeddings", type=click.Path(path_type=Path))
@out_option
@click.option("--use", help="Index backend (`embedkit components index`); that of the run file when left out.")
@click.option("--prefix", type=click.IntRange(min=1), help="Search the first so many numbers of a vector, then rescore.")
@click.option("--rescore", type=click.IntRange(min=1), help="Candidates to rescore with whole vectors.")
@click.option("--option", "options", multiple=True, metavar="KEY=VALUE", help="Option of the backend, such as m=32. Repeatable.")
@click.option("--keep", help="Columns of the table to keep for --where, parted by commas; all plain ones when left out, '' for none.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads the backend may use.")
@json_option
@pass_state
def command(
    state: State,
    /,
    embeddings: Path,
    out: Path,
    use: str | None,
    options: tuple[str, ...],
    keep: str | None,
    threads: int | None,
    as_json: bool,
    **widths: int | None,
) -> None:
    """Index the vectors in the folder EMBEDDINGS; an index that is there is replaced once the new one is whole and tested."""
    from embedkit import api
    from embedkit.embed.manifest import open_embeddings

    settings = given(**widths) | read_options(options)
    default, written = _default(Path(open_embeddings(embeddings).manifest.bundle))
    entry = state.registry.entry("index", use or default)
    if use is None or entry.qualified == state.registry.entry("index", default).qualified:
        settings = written | settings
    columns = None if keep is None else [name.strip() for name in keep.split(",") if name.strip()]
    backend = {"use": entry.qualified, **settings}
    built = api.build_index(embeddings, out, backend=backend, host=state.host, keep=columns, threads=threads, log=printer())
    found = {"index": str(out), "generation": built.generation, "rows": built.rows, "backend": entry.qualified, "prefix": built.meta.prefix}
    found |= dict(built.meta.self_test) | {"probes": int(built.meta.self_test["probes"])}
    if as_json:
        show_json(found)
        return
    show_pairs(given(**found))
    click.echo(f"next: embedkit search {out} --id ID")


def _default(bundle: Path) -> tuple[str, dict[str, Any]]:
    """The backend and options that the bundle's run file names; hnsw when the bundle has moved away."""
    from embedkit.bundle import RUN
    from embedkit.config.load import read_toml

    file = bundle / RUN
    found = dict(read_toml(file).get("index", {})) if file.is_file() else {}
    return found.pop("use", "hnsw"), found
