"""``embedkit search``: the nearest items of an id, a text, a row or a history."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from embedkit.cli.options import read_options, search_options
from embedkit.cli.render import json_option, show_json, show_table
from embedkit.cli.state import State, pass_state
from embedkit.errors import UsageError

if TYPE_CHECKING:
    from embedkit.serve.query import Neighbours, Searcher

_SHOWN = 3
"""Columns beside an answer when none are named."""
_WIDTH = 60


@click.command("search")
@click.argument("index", type=click.Path(path_type=Path))
@click.option("--id", "ids", multiple=True, help="Items like this one. Repeatable: one answer each.")
@click.option("--text", "texts", multiple=True, help="Items whose text fields are like this. Repeatable.")
@click.option("--row", "rows", multiple=True, metavar="JSON", help="Items like a row of field values; fields may be left out. Repeatable.")
@click.option("--history", "histories", multiple=True, metavar="ID,ID,…", help="What follows these items, the oldest first. Repeatable.")
@click.option("-k", type=click.IntRange(min=1), default=10, show_default=True, help="Answers wanted.")
@click.option("--where", help='Answer only with items for which this is true, in SQL: "price < 20".')
@click.option("--tower", help="Tower that encodes the question, where it cannot be told.")
@click.option("--exclude-seen", is_flag=True, help="With --history: leave its own items out.")
@click.option("--bundle", type=click.Path(path_type=Path), help="Bundle that encodes questions, when it was moved.")
@click.option("--show", help="Columns to print beside ids, parted by commas.")
@search_options
@json_option
@pass_state
def command(
    state: State,
    index: Path,
    ids: tuple[str, ...],
    texts: tuple[str, ...],
    rows: tuple[str, ...],
    histories: tuple[str, ...],
    k: int,
    where: str | None,
    tower: str | None,
    exclude_seen: bool,
    bundle: Path | None,
    show: str | None,
    options: tuple[str, ...],
    as_json: bool,
) -> None:
    """Search the index in the folder INDEX by --id, --text, --row or --history."""
    asked = [name for name, given in (("--id", ids), ("--text", texts), ("--row", rows), ("--history", histories)) if given]
    if len(asked) != 1:
        raise UsageError(f"search: ask by one of --id, --text, --row and --history{', not by ' + ' and '.join(asked) if asked else ''}")
    from embedkit import api

    searcher = api.open_index(index, bundle, options=read_options(options), host=state.host)
    if ids:
        found = searcher.by_ids(list(ids), k, where=where)
    elif texts:
        found = searcher.by_text(list(texts), k, where=where, tower=tower)
    elif rows:
        found = searcher.by_rows([_row(text) for text in rows], k, where=where, tower=tower)
    else:
        asked_for = [[one.strip() for one in text.split(",") if one.strip()] for text in histories]
        found = searcher.by_history(asked_for, k, where=where, tower=tower, exclude_seen=exclude_seen)
    columns = [c.strip() for c in show.split(",") if c.strip()] if show is not None else shown_columns(searcher)
    answer(searcher, found, [*ids, *texts, *rows, *histories], columns, as_json=as_json)


def _row(text: str) -> dict[str, Any]:
    try:
        row = json.loads(text)
    except ValueError as error:
        raise UsageError(f'--row: is no JSON ({error}); write field values such as \'{{"title": "warm gloves", "price": 9.5}}\'') from None
    if not isinstance(row, dict):
        raise UsageError(f"--row: found {text}, wanted an object of field values such as '{{\"price\": 9.5}}'")
    return row


def shown_columns(searcher: Searcher) -> list[str]:
    """Of the columns that the index keeps, the first few beside the key."""
    return [column for column in searcher.index.attributes.columns if column != searcher.index.meta.key][:_SHOWN]


def answer(searcher: Searcher, found: Neighbours, questions: list[str], columns: list[str], *, as_json: bool = False) -> None:
    """Print the answers to each question with columns of the catalogue beside them."""
    answers = []
    for i, question in enumerate(questions):
        ids = [one for one in found.ids[i].tolist() if one is not None]
        beside = searcher.attributes(ids, columns).to_pylist() if columns and ids else [{} for _ in ids]
        scores = found.scores[i].tolist()[: len(ids)]
        answers.append((question, [{"id": one, "score": score, **rest} for one, score, rest in zip(ids, scores, beside, strict=True)]))
    if as_json:
        show_json([{"query": question, "generation": found.generation, "neighbours": rows} for question, rows in answers])
        return
    for question, rows in answers:
        lines = [(n + 1, row["id"], row["score"], *(_short(row.get(column)) for column in columns)) for n, row in enumerate(rows)]
        show_table(("rank", "id", "score", *columns), lines, title=question, empty="nothing fits")


def _short(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = " ".join(value.split())
    return text if len(text) <= _WIDTH else text[: _WIDTH - 1] + "…"
