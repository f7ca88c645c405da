"""``embedkit compare``: is one run better than another, by more than chance?"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from embedkit.cli.render import json_option, show_json, show_table


@click.command("compare")
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--split", type=click.Choice(["valid", "test"]), default="test", show_default=True, help="Rows they were measured on.")
@json_option
def command(runs: tuple[Path, ...], split: str, as_json: bool) -> None:
    """Compare RUNS (folders) by a paired bootstrap over the same queries; runs that differ in their seed alone count as one."""
    from embedkit.evaluate.compare import compare

    found = compare(runs, split=split)
    if as_json:
        show_json([dataclasses.asdict(one) for one in found])
        return
    rows = [
        (
            one.metric,
            one.first,
            one.first_value,
            one.second,
            one.second_value,
            _interval(one.difference, one.low, one.high),
            one.p,
            one.queries,
        )
        for one in found
    ]
    show_table(("metric", "first", "its mean", "second", "its mean", "second - first [95%]", "p", "queries"), rows)


def _interval(value: float, low: float | None, high: float | None) -> str:
    return f"{value:+.4f}" if low is None or high is None else f"{value:+.4f} [{low:+.4f}, {high:+.4f}]"
