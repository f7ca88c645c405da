"""How commands show things: rich tables on a terminal, aligned plain text otherwise, JSON when asked."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

Row = Sequence[Any]

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
"""The ``--json`` option, passed as ``as_json``."""


def show_json(value: Any) -> None:
    """Print a value as JSON; NumPy numbers and paths are turned into JSON's own."""
    click.echo(json.dumps(value, indent=1, ensure_ascii=False, default=_plain))


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return str(value)


def on_terminal() -> bool:
    """Whether people read standard output as it appears."""
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def show_table(columns: Sequence[str], rows: Sequence[Row], *, title: str | None = None, empty: str = "nothing") -> None:
    """Print a table; numbers stand to the right."""
    if not rows:
        click.echo(empty if title is None else f"{title}: {empty}")
        return
    texts = [[text_of(value) for value in row] for row in rows]
    right = [all(isinstance(row[i], (int, float)) or row[i] is None for row in rows) for i in range(len(columns))]
    if on_terminal():
        _rich_table(columns, texts, right, title)
        return
    if title:
        click.echo(title)
    widths = [max(len(column), *(len(row[i]) for row in texts)) for i, column in enumerate(columns)]
    for line in [list(columns), *texts]:
        cells = [cell.rjust(width) if r else cell.ljust(width) for cell, width, r in zip(line, widths, right, strict=True)]
        click.echo("  ".join(cells).rstrip())


def _rich_table(columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[bool], title: str | None) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for column, justify in zip(columns, right, strict=True):
        table.add_column(column, justify="right" if justify else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)


def show_pairs(pairs: Mapping[str, Any] | Sequence[tuple[str, Any]]) -> None:
    """Print names and values, a line each."""
    items = list(pairs.items() if isinstance(pairs, Mapping) else pairs)
    width = max((len(name) for name, _ in items), default=0)
    for name, value in items:
        lines = text_of(value).split("\n")
        click.echo(f"{name.ljust(width)}  {lines[0]}".rstrip())
        for line in lines[1:]:
            click.echo(f"{' ' * width}  {line}".rstrip())


def text_of(value: Any) -> str:
    """A value as a cell shows it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4f}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, (list, tuple)):
        return ", ".join(text_of(one) for one in value)
    if hasattr(value, "isoformat"):
        return str(value.isoformat())
    return str(value)


def printer() -> Callable[[str], None]:
    """A ``log`` for long work: one line a call, on standard error, so that standard output holds results only."""

    def log(line: str) -> None:
        click.echo(line, err=True)

    return log


def size_of(count: float) -> str:
    """Bytes in words."""
    from rich.filesize import decimal

    return decimal(round(count))
