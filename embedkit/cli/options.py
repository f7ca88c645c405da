"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

set_option = click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change the run file, such as --set seed=3. Repeatable."
)
runs_dir_option = click.option(
    "--runs-dir", type=click.Path(path_type=Path), default="runs", show_default=True, help="Folder that run folders are made in."
)
search_options = click.option(
    "--option",
    "options",
    multiple=True,
    metavar="KEY=VALUE",
    help="Search with another option of the index than it was built with, such as ef=200. Repeatable.",
)
out_option = click.option("--out", type=click.Path(path_type=Path), required=True, help="Where to write.")


def compute_options(function: F) -> F:
    """``--device``, ``--threads`` and ``--precision``; None when not given."""
    for option in (
        click.option("--precision", type=click.Choice(["float32", "bfloat16"]), help="Precision of forwards."),
        click.option("--threads", type=click.IntRange(min=1), help="CPU threads."),
        click.option("--device", help="auto, cpu, cuda or cuda:N."),
    ):
        function = option(function)
    return function


def given(**values: Any) -> dict[str, Any]:
    """Those of the values that were given."""
    return {key: value for key, value in values.items() if value is not None}


def read_options(texts: Iterable[str]) -> dict[str, Any]:
    """What ``--option KEY=VALUE`` said."""
    from embedkit.config.overrides import apply_overrides

    options: dict[str, Any] = {}
    apply_overrides(options, texts, "--option", "ef=200")
    return options
