"""``embedkit demo``: the whole way on real data, each step with its time and size. Nothing here that the other commands cannot do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from embedkit.cli.render import printer, show_table, size_of
from embedkit.cli.state import State, pass_state

if TYPE_CHECKING:
    from embedkit.serve.query import Neighbours

Step = tuple[str, str, str]
"""What was done, how long it took, what it left."""

SIMILAR, TEXT, HISTORY = "json.loads", "parse a date from a string", ("builtins.open", "json.load")
"""What the three searches ask: functions like one, functions for a task, the next call after some."""


@click.command("demo")
@click.option("--out", type=click.Path(path_type=Path), default="demo", show_default=True, help="Folder for everything.")
@click.option("--dataset", "name", default="python_api", show_default=True, help="Data set; searches are shown for python_api.")
@pass_state
def command(state: State, out: Path, name: str) -> None:
    """Prepare Python's own standard library, train, evaluate beside baselines, embed, index, and search three ways."""
    from embedkit import api
    from embedkit.cli.data import dataset
    from embedkit.cli.figures import show_evaluation
    from embedkit.launch import prepare

    steps: list[Step] = []
    log = printer()
    with _timed(steps, "prepare data", out / "data"):
        prepared = dataset(state, name).prepare(out / "data", log=log)
    launch = prepare(prepared.run_file, state.host)
    folder = launch.create_folder(out / "runs")
    with _timed(steps, "train and evaluate", folder.path):
        from embedkit.training.run import train_run

        train_run(launch.plan, folder, state.host, log=log)
    show_evaluation(folder)
    number = folder.path.name.rpartition("-")[2]
    vectors, index = out / f"vectors-{number}", out / "index"
    with _timed(steps, "embed the catalogue", vectors):
        api.embed(folder.bundle, vectors, host=state.host, log=log)
    with _timed(steps, "index", index):
        api.build_index(vectors, index, host=state.host, log=log)
    if name == "python_api":
        _search(state, index, steps)
    click.echo()
    show_table(("step", "time", "size"), steps)
    click.echo(f'\nnext: embedkit search {index} --text "compress a file"')


def _search(state: State, index: Path, steps: list[Step]) -> None:
    from embedkit import api
    from embedkit.cli.search import answer

    with _timed(steps, "open the index", None):
        searcher = api.open_index(index, host=state.host)
        _ = searcher.bundle  # loaded here, so that the searches below show what a search takes
    searches: tuple[tuple[str, Callable[[], Neighbours]], ...] = (
        (f"functions like {SIMILAR}", lambda: searcher.by_ids([SIMILAR], 8)),
        (f"functions for the text: {TEXT}", lambda: searcher.by_text([TEXT], 8)),
        (f"the next call after {' and '.join(HISTORY)}", lambda: searcher.by_history([HISTORY], 8)),
    )
    for title, search in searches:
        with _timed(steps, f"search: {title}", None):
            found = search()
        click.echo()
        answer(searcher, found, [title], ["kind", "doc"])


@contextmanager
def _timed(steps: list[Step], what: str, where: Path | None) -> Iterator[None]:
    """Note how long a step took and how much it left on disk."""
    start = time.perf_counter()
    yield
    seconds = time.perf_counter() - start
    took = f"{seconds:.1f} s" if seconds >= 1 else f"{1000 * seconds:.0f} ms"
    size = "" if where is None else size_of(sum(path.stat().st_size for path in where.rglob("*") if path.is_file()))
    steps.append((what, took, size))
