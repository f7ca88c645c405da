"""Show what evaluators found: the model beside the baselines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from embedkit.cli.render import show_table

if TYPE_CHECKING:
    from embedkit.evaluate.base import Estimate
    from embedkit.runs import RunFolder


def show_estimates(estimates: Sequence[Estimate], *, split: str, every: bool = False) -> None:
    """A table with a column for the model and each baseline: every metric over all queries, and of slices and prefixes the first metric
    only, unless ``every`` figure is wanted."""
    from embedkit.evaluate.run import table_rows

    leading = {one.evaluator: one.metric for one in reversed(estimates)}
    shown = [one for one in estimates if every or (one.slice is None and one.prefix is None) or one.metric == leading[one.evaluator]]
    rows = table_rows(shown)
    columns = list(dict.fromkeys(column for row in rows for column in row))
    show_table(
        columns, [[row.get(column) for column in columns] for row in rows], title=f"{split} split, 95% intervals", empty="no figures"
    )


def show_evaluation(folder: RunFolder) -> None:
    """What the run's ``evaluation.json`` says, split by split; silent when it was not evaluated."""
    if not folder.evaluation.is_file():
        return
    from embedkit.evaluate.base import Estimate
    from embedkit.evaluate.run import read_evaluation

    found = read_evaluation(folder)["estimates"]
    for split in dict.fromkeys(one["split"] for one in found):
        click.echo()
        chosen = [{key: value for key, value in one.items() if key != "split"} for one in found if one["split"] == split]
        show_estimates(
            [Estimate(**{**one, "value": float("nan") if one["value"] is None else one["value"]}) for one in chosen], split=split
        )
