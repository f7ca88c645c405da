"""Write the report of one or several runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from embedkit.errors import EmbedkitError, UsageError
from embedkit.files import atomic_write
from embedkit.reporting import sections
from embedkit.reporting.collect import Told
from embedkit.reporting.items import item_map
from embedkit.reporting.style import CSS, SCRIPT
from embedkit.reporting.users import confidence
from embedkit.runs import RunFolder

if TYPE_CHECKING:
    from embedkit.data.store import Store
    from embedkit.registry import Registry

Log = Callable[[str], Any]


def write_report(
    runs: Sequence[Path | str],
    out: Path | None,
    registry: Registry,
    *,
    split: Literal["valid", "test"] = "test",
    items: int = 5000,
    users: int = 2000,
    seed: int = 0,
    log: Log = lambda line: None,
) -> Path:
    """Write one page about the first run; the others stand beside it where quality is drawn against table bytes.

    Args:
        runs: run folders.
        out: file to write; ``report.html`` in the first run's folder when left out.
        registry: of the components of the bundles.
        split: whose figures are shown.
        items: on the map at most.
        users: asked for their confidence at most.
        seed: of both samples.
        log: called with one line for people.

    Returns:
        The file.

    Raises:
        UsageError: a folder is no run, or is given twice.
        BundleError: an evaluation is damaged.
        PluginError: a component of a bundle is not here.
    """
    folders = [RunFolder.open(Path(run)) for run in runs]
    if not folders:
        raise UsageError("report wants at least one run folder")
    if len({folder.path.resolve() for folder in folders}) < len(folders):
        raise UsageError("report was given the same run folder twice; name each once")
    told = [Told.of(folder, split, registry) for folder in folders]
    main = told[0]
    parts = [("curves", "Training", sections.curves(main))]
    parts.append(("metrics", "Figures beside baselines", sections.metrics(main)))
    parts.append(("prefixes", "Quality against prefix length", sections.prefixes(main)))
    parts.append(("bytes", "Quality against table bytes", sections.table_bytes(told)))
    parts.append(("slices", "Slices", sections.slices(main)))
    parts += _of_vectors(main, registry, items, users, seed, log)
    path = folders[0].report if out is None else Path(out)
    atomic_write(path, _page(main, sections.head(told), parts))
    return path


def _of_vectors(run: Told, registry: Registry, items: int, users: int, seed: int, log: Log) -> list[tuple[str, str, str]]:
    """The sections that need the bundle and its tables; what stands in the way of one is said in its place."""
    from embedkit.api import open_store

    titles = ("items", "Map of the items"), ("users", "Users by confidence")
    if run.bundle is None:
        return [(*title, sections.missing(run.lacking)) for title in titles]
    log("opening the tables of the run")
    try:
        store = open_store(run.bundle, registry)
    except EmbedkitError as error:
        return [(*title, sections.missing(str(error))) for title in titles]
    return [
        (*titles[0], _said(lambda: _items(run, store, items, seed, log))),
        (*titles[1], _said(lambda: _users(run, store, users, seed, log))),
    ]


def _said(make: Callable[[], str]) -> str:
    try:
        return make()
    except EmbedkitError as error:
        return sections.missing(str(error))


def _items(run: Told, store: Store, most: int, seed: int, log: Log) -> str:
    assert run.bundle is not None
    tower = run.bundle.tower(run.options.get("target"))
    log(f"drawing the items of tower '{tower}'")
    return sections.item_map(item_map(run.bundle, store, tower, most=most, seed=seed), tower)


def _users(run: Told, store: Store, most: int, seed: int, log: Log) -> str:
    assert run.bundle is not None
    query, target = run.options.get("query"), run.options.get("target")
    if query is None or target is None:
        raise UsageError(
            "No evaluator of this run ranks the items of one tower for the queries of another, so there are no recommendations."
        )
    table = run.bundle.schema.towers[target].table
    events = run.options.get("events") or _events(run, store, query, table)
    log(f"asking at most {most:,} users of the {run.split} split")
    found = confidence(
        run.bundle,
        store,
        query=query,
        target=target,
        events=events,
        split="valid" if run.split == "valid" else "test",
        exclude_seen=bool(run.options.get("exclude_seen", True)),
        most=most,
        seed=seed,
    )
    return sections.users(found)


def _events(run: Told, store: Store, query: str, table: str) -> str:
    """The event table that the evaluator took, told from the towers as it does."""
    assert run.bundle is not None
    joining = [name for name, events in store.events.items() if table in events.joins]
    own = run.bundle.schema.towers[query].table
    if own in joining or not joining:
        return own
    return joining[0]


def _page(run: Told, head: str, parts: Sequence[tuple[str, str, str]]) -> str:
    links = "".join(f'<a href="#{anchor}">{escape(title)}</a>' for anchor, title, _ in parts)
    body = "".join(f'<section><h2 id="{anchor}">{escape(title)}</h2>{html}</section>' for anchor, title, html in parts)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(run.name)}</title><style>{CSS}</style></head>\n<body><main>{head}<nav>{links}</nav>{body}</main>\n"
        f"<script>{SCRIPT}</script></body></html>\n"
    )
