"""``embedkit bundle``: look into a trained bundle. ``inspect`` needs neither torch nor the bundle's plugins."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from embedkit.cli.render import json_option, show_json, show_pairs, show_table, size_of
from embedkit.cli.state import State, pass_state


@click.group("bundle")
def command() -> None:
    """Look into a trained bundle."""


@command.command("inspect")
@click.argument("bundle", type=click.Path(path_type=Path))
@json_option
def inspect(bundle: Path, as_json: bool) -> None:
    """Print what BUNDLE (its folder, or a run's) holds: towers, fields, components, files; and check that none is damaged."""
    from embedkit.bundle import check_files, find_bundle, read_meta
    from embedkit.schema import Schema

    folder = find_bundle(bundle)
    meta = read_meta(folder)
    check_files(folder, meta)
    if as_json:
        show_json(meta.to_json())
        return
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    show_pairs(
        {
            "bundle": str(folder),
            "run": meta.name,
            "embedkit": meta.version,
            "size": f"{size_of(size)} in {len(meta.files) + 1} files, none damaged",
        }
    )
    schema = Schema.from_json(meta.model["schema"])
    click.echo()
    towers = [
        (name, schema.towers[name].table, space.dim, space.prefixes, space.metric, ", ".join(schema.towers[name].fields), space.id[:12])
        for name, space in meta.spaces.items()
    ]
    show_table(("tower", "table", "width", "prefixes", "metric", "fields", "space"), towers)
    click.echo()
    parts = [("encoder", part["use"], ", ".join(part["fields"]), _from(part)) for part in meta.model["encoders"]]
    for kind in ("trunk", "head"):
        parts += [(kind, part["use"], tower, _from(part)) for tower, part in meta.model[f"{kind}s"].items()]
    show_table(("component", "name", "of", "from"), parts)


@command.command("tables")
@click.argument("bundle", type=click.Path(path_type=Path))
@json_option
@pass_state
def tables(state: State, bundle: Path, as_json: bool) -> None:
    """Print what the embedding tables of BUNDLE (its folder, or a run's) cost, and how often values meet in them.

    ``first`` is the share of a field's values whose first row is another value's of the field too, ``full`` that of values which nothing
    tells apart, ``between`` that of values whose first row a value of another domain reads. The optimiser's bytes come on top of the
    tables' while training.
    """
    from embedkit.bundle import load_bundle
    from embedkit.tables import table_reports

    found = table_reports(load_bundle(bundle, state.registry), state.registry)
    if as_json:
        show_json([dataclasses.asdict(one) for one in found])
        return
    rows = []
    for one in found:
        report, kept = one.report, one.optimizer_bytes
        cells = (report.kind, report.tables, report.rows, report.width, size_of(report.bytes), "unknown" if kept is None else size_of(kept))
        rows.append((one.encoder, *cells, one.optimizer))
    show_table(("encoder", "kind", "tables", "rows", "width", "bytes", "optimiser bytes", "optimiser"), rows, empty="no embedding tables")
    fields = [(name, one.encoder, c.size, c.first, c.full, c.between) for one in found for name, c in one.report.fields.items()]
    if fields:
        click.echo()
        show_table(("field", "encoder", "values", "first", "full", "between"), fields)


def _from(part: dict[str, str | None]) -> str:
    return f"{part['distribution']} {part['version']}" if part["distribution"] else "a one-file plugin"
