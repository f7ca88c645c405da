"""``embedkit embed``: the rows of a table → vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from embedkit.cli.options import compute_options, given, out_option
from embedkit.cli.render import json_option, printer, show_json, show_pairs
from embedkit.cli.state import State, pass_state


@click.command("embed")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("table", nargs=-1)
@out_option
@click.option("--tower", help="Tower to embed with; needed when several stand over tables with a key.")
@click.option(
    "--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Processes that share the work without a coordinator."
)
@click.option("--worker", type=click.IntRange(min=0), default=0, show_default=True, help="Which of them this one is.")
@click.option("--batch-size", type=click.IntRange(min=1), help="Rows a forward.")
@click.option("--force", is_flag=True, help="Start anew when --out holds vectors of another bundle, table or option.")
@compute_options
@json_option
@pass_state
def command(
    state: State, /, bundle: Path, table: tuple[str, ...], out: Path, force: bool, as_json: bool, device: str | None, **options: Any
) -> None:
    """Embed the rows of TABLE (Parquet or CSV files, or a quoted glob) with BUNDLE (its folder, or a run's).

    Without TABLE the bundle's own table is embedded. A run that was stopped goes on where it was.
    """
    from embedkit import api
    from embedkit.training.compute import choose_device

    where = choose_device(device or "auto")
    manifest = api.embed(
        bundle, out, table=list(table) or None, host=state.host, force=force, device=where, log=printer(), **given(**options)
    )
    if as_json:
        show_json({"out": out, "rows": manifest.rows, "complete": manifest.complete, "space": manifest.space.to_json()})
        return
    show_pairs({"vectors": f"{manifest.rows:,} of width {manifest.space.dim}", "in": str(out), "complete": manifest.complete})
    if manifest.complete:
        click.echo(f"next: embedkit index {out} --out DIR")
