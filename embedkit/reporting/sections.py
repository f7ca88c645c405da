"""The sections of the page, each from what it needs to its HTML. A section whose data is missing says why in one line."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any

from rich.filesize import decimal

from embedkit.evaluate.run import table_rows
from embedkit.reporting import svg
from embedkit.reporting.collect import Told
from embedkit.reporting.items import Map
from embedkit.reporting.svg import Line, Mark, Row, number
from embedkit.reporting.users import Confidence, User
from embedkit.training.curve import Series

_POINTS = 400
"""Points of a curve at most; longer ones show means of neighbouring steps."""


def missing(text: str) -> str:
    """Why there is nothing to see."""
    return f'<p class="missing">{escape(text)}</p>'


def figure(caption: str, chart: str) -> str:
    """A chart with its caption."""
    return f"<figure><figcaption>{escape(caption)}</figcaption>{chart}</figure>"


def head(runs: Sequence[Told]) -> str:
    """What run this is, and its first figures."""
    run = runs[0]
    status = run.folder.read_status()
    said = [f"run {escape(run.name)}", escape(str(status["state"]))]
    said += [f"started {escape(str(status['started']).replace('T', ' '))}"] if "started" in status else []
    if run.bundle is not None:
        said.append(f"embedkit {escape(run.bundle.meta.version)}")
    tiles = [(one.metric, number(one.value), _between(one.low, one.high)) for one in run.estimates if _whole(one)][:5]
    if run.table_bytes is not None:
        tiles.append(("embedding tables", decimal(round(run.table_bytes)), "float32"))
    cells = "".join(f"<div><span>{escape(name)}</span><b>{value}</b><span>{note or '&nbsp;'}</span></div>" for name, value, note in tiles)
    title = run.bundle.meta.name if run.bundle is not None else run.name
    return f'<h1>{escape(title)}</h1><p class="soft">{" · ".join(said)}</p><div class="tiles">{cells}</div>'


def curves(run: Told) -> str:
    """Losses and the validation metric over steps."""
    found = Series.of(run.records)
    losses, metric = found.losses, found.metric
    valid = [(step, value) for step, value in found.valid if value is not None]  # None: a figure that was no number
    if not losses:
        return missing("This run wrote no metrics.jsonl, so there is no curve: it stopped before its first line of the log.")
    shown = [Line(name, i, _thin(points)) for i, (name, points) in enumerate(losses.items())]
    chart = svg.lines("training losses over steps", shown, x_label="step", y_label="training loss")
    parts = [figure("Training loss" if len(shown) == 1 else "Training losses; “loss” is their weighted sum", chart)]
    if valid:
        line = Line(metric, 0, _thin(valid), dots=len(valid) <= 60)
        parts.append(figure(f"Validation {metric}", svg.lines(f"validation {metric} over steps", [line], x_label="step", y_label=metric)))
    else:
        parts.append(missing("The stage has no validate entry, so nothing was measured while training."))
    names = svg.legend([line.label for line in shown]) if len(shown) > 1 else ""
    return f'{names}<div class="charts">{"".join(parts)}</div>'


def metrics(run: Told) -> str:
    """Every figure over all queries beside the baselines."""
    if not run.estimates:
        return _unmeasured(run)
    names = list(dict.fromkeys(one.metric for one in run.estimates if one.slice is None and one.prefix is None))
    charts = []
    for name in names:
        found = [(i, model, run.mark(name, model=model)) for i, model in enumerate(run.models)]
        rows = [Row(model, [(i, mark)]) for i, model, mark in found if mark is not None]
        charts.append(figure(name, svg.whiskers(f"{name} of the model and the baselines", rows, names=run.models)))
    asked = run.options.get("exclude_seen")
    note = (
        "" if asked is None else f" Items of the history {'are no' if asked else 'are'} candidates (exclude_seen = {str(asked).lower()})."
    )
    count = max(one.n for one in run.estimates if _whole(one))
    intro = f"<p>{count:,} queries of the {run.split} split, full ranking; whiskers are 95% intervals over queries.{note}</p>"
    return f'{intro}<div class="charts">{"".join(charts)}</div>{_table(run)}'


def prefixes(run: Told) -> str:
    """Quality by the first numbers of the embeddings alone."""
    widths = sorted({one.prefix for one in run.estimates if one.prefix is not None})
    if not widths:
        return missing(
            'No prefixes were measured: give the heads nested widths (use = "matryoshka") and set prefixes = true in the '
            "[[evaluate]] entry, or prefixes = [16, 32] for any widths."
        )
    whole = None if run.bundle is None else run.bundle.model.dims.get(run.options.get("target", ""))
    charts = []
    for name in [one.metric for one in run.estimates if one.prefix == widths[0]]:
        points = [(float(width), mark) for width in widths if (mark := run.mark(name, prefix=width)) is not None]
        mark = run.mark(name)
        if whole is not None and mark is not None:
            points.append((float(whole), mark))
        chart = svg.lines(
            f"{name} by prefix length", [Line(name, 0, points, dots=True)], x_label="numbers kept", y_label=name, log_x=True,
            x_ticks=[x for x, _ in points],
        )  # fmt: skip
        charts.append(figure(name, chart))
    intro = "<p>The model with its embeddings cut to their first numbers and brought to unit length again; whiskers are 95% intervals.</p>"
    return f'{intro}<div class="charts">{"".join(charts)}</div>'


def table_bytes(runs: Sequence[Told]) -> str:
    """Quality against the bytes of the embedding tables, a point a run."""
    metric = runs[0].leading
    if metric is None:
        return _unmeasured(runs[0])
    points = [(run.name, float(run.table_bytes), mark) for run in runs if run.table_bytes and (mark := run.mark(metric)) is not None]
    rows = [(name, decimal(round(size)), number(mark.value), _between(mark.low, mark.high)) for name, size, mark in points]
    left_out = [run.name for run in runs if run.name not in {name for name, _, _ in points}]
    note = missing(f"Without embedding tables, a bundle or {metric}: {', '.join(left_out)}.") if left_out else ""
    if len(points) < 2:
        held = f"this run's tables take {rows[0][1]}" if rows else "this run has no embedding tables"
        return missing(f"A single point says little ({held}): give several runs, embedkit report RUN RUN …, for a point each.")
    chart = svg.labelled(
        f"{metric} against table bytes", points, x_label="bytes of tables", y_label=metric, x_text=lambda size: decimal(round(size))
    )
    cells = _html_table(("run", "tables", metric, "95% interval"), rows, right=(1, 2))
    return f"{svg.legend([name for name, _, _ in points])}{figure(f'{metric}, a point a run', chart)}{cells}{note}"


def slices(run: Told) -> str:
    """The leading metric on parts of the queries."""
    kinds = list(dict.fromkeys(one.slice.partition(":")[0] for one in run.estimates if one.slice is not None))
    if not kinds or run.leading is None:
        return missing(
            'No slices were measured: name them in the [[evaluate]] entry, such as slices = ["tail", "cold", "short", "popularity"].'
        )
    name, charts = run.leading, []
    for kind in kinds:
        parts = list(dict.fromkeys(one.slice for one in run.estimates if one.slice is not None and one.slice.partition(":")[0] == kind))
        rows = []
        for part in parts:
            count = next(one.n for one in run.estimates if one.slice == part)
            found = [(i, mark) for i, model in enumerate(run.models) if (mark := run.mark(name, model=model, slice_=part)) is not None]
            rows.append(Row(f"{part.partition(':')[2]} ({count:,})", found))
        charts.append(figure(_SLICES.get(kind, kind), svg.whiskers(f"{name} by {kind}", rows, names=run.models)))
    intro = (
        f"<p>{escape(name)} where only some relevant items count; in brackets the queries that have any. "
        "Ranks are those of the full ranking.</p>"
    )
    return f'{intro}{svg.legend(run.models)}<div class="charts">{"".join(charts)}</div>'


_SLICES = {
    "popularity": "By popularity of the target: each third of the train events",
    "tail": "Rare targets: few train events",
    "cold": "Targets without a train event",
    "history": "By events in the history",
    "short": "Short histories",
}


def item_map(found: Map, tower: str) -> str:
    """The items on two axes."""
    first, second = (f"{share:.0%}" for share in found.shares)
    what = f"all {found.total:,}" if found.shown == found.total else f"{found.shown:,} of {found.total:,}"
    intro = (
        f"<p>Vectors of {what} items of tower {escape(tower)}, by their first two principal components "
        f"({first} and {second} of the variance). Hover for names. "
        "Two axes show little of many: items that look close may be far apart.</p>"
    )
    names = svg.legend([*found.groups, "others"]) if found.groups and len(found.groups) == svg.COLOURS - 1 else _few(found)
    colours = f"<p class='soft'>Colour: {escape(str(found.field))}</p>{names}" if found.field else ""
    return f"{intro}{colours}{svg.cloud('map of the item vectors', found.points)}"


def _few(found: Map) -> str:
    rest = svg.legend(["others"], first=svg.COLOURS - 1) if any(colour == svg.COLOURS - 1 for *_, colour, _ in found.points) else ""
    return svg.legend(found.groups) + rest


def users(found: Confidence) -> str:
    """The most and the least confident users."""
    shares = ", ".join(f"{share:.0%}" for share in found.hits)
    intro = (
        "<p>Confidence is a margin: the score of a user's first recommendation minus that of the eleventh item. "
        f"Of {found.asked:,} users asked, from the least to the most confident quarter, {shares} have a held-out item among their ten. "
        "Held-out items are set in green.</p>"
    )
    groups = (("The ten most confident", found.most), ("The ten least confident", found.least))
    parts = (f'<h3>{title}</h3><div class="users">{"".join(map(_user, some))}</div>' for title, some in groups)
    return intro + "".join(parts)


def _user(user: User) -> str:
    items = "".join(
        f"<li{' class=hit' if one.hit else ''}><span>{one.score:.3f}</span>{escape(one.name)}{' ✓' if one.hit else ''}</li>"
        for one in user.recommended
    )
    before = f"… ({user.earlier:,} earlier), " if user.earlier else ""
    history = before + ", ".join(map(escape, user.history)) if user.history else "nothing"
    held = ", ".join(map(escape, user.held_out))
    return (
        f'<div class="user"><h4>{escape(user.id)}<span>margin {user.margin:.3f}</span></h4>'
        f'<p><b>History:</b> {history}</p><ol>{items}</ol><p class="soft">Held out: {held}</p></div>'
    )


def _unmeasured(run: Told) -> str:
    state = run.folder.state
    todo = f"the run is {state}" if state != "finished" else f"run `embedkit evaluate {run.folder.path.name} --split {run.split}`"
    return missing(f"There are no figures of the {run.split} split: {todo}.")


def _table(run: Told) -> str:
    rows = table_rows(run.estimates)
    columns = list(dict.fromkeys(column for row in rows for column in row))
    cells = _html_table(columns, [[row.get(column, "") for column in columns] for row in rows], right=(columns.index("n"),))
    return f"<details><summary>Every figure of every slice</summary>{cells}</details>"


def _html_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], *, right: Sequence[int] = ()) -> str:
    def cells(tag: str, row: Sequence[Any]) -> str:
        return "".join(f"<{tag}{' class=n' if i in right else ''}>{escape(str(value))}</{tag}>" for i, value in enumerate(row))

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{cells("th", columns)}</tr></thead><tbody>{body}</tbody></table></div>'


def _thin(points: Sequence[tuple[int, float]]) -> list[tuple[float, Mark]]:
    step = math.ceil(len(points) / _POINTS)
    pieces = [points[i : i + step] for i in range(0, len(points), step)]
    return [(float(piece[-1][0]), Mark(sum(value for _, value in piece) / len(piece))) for piece in pieces]


def _whole(one: Any) -> bool:
    return one.model == "model" and one.slice is None and one.prefix is None


def _between(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{number(low)} to {number(high)}"
