"""Small charts as SVG text. Colours come from the page's style sheet: series ``i`` has the class ``s<i>``."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

COLOURS = 8
"""Series that have a colour of their own; later ones share the last one."""

Text = Callable[[float], str]


@dataclass(frozen=True)
class Mark:
    """A value with its interval, if it has one."""

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def ends(self) -> tuple[float, float]:
        """The interval, or the value twice."""
        return (self.value, self.value) if self.low is None or self.high is None else (self.low, self.high)


@dataclass(frozen=True)
class Row:
    """One line of a whisker chart: a label, and (series, mark) for each that has one."""

    label: str
    marks: Sequence[tuple[int, Mark]]


@dataclass(frozen=True)
class Line:
    """One line of a line chart: points (x, mark) in order of x."""

    label: str
    series: int
    points: Sequence[tuple[float, Mark]]
    dots: bool = False


def number(value: float) -> str:
    """A figure as a label shows it: four digits that matter, thousands in words."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else "–"
    size = abs(value)
    if size >= 10_000:
        return f"{value:,.0f}"
    return f"{value:.4f}" if size < 1 else f"{value:.4g}"


def short(value: float) -> str:
    """A tick's label."""
    return f"{value:.10g}" if abs(value) < 10_000 else f"{value:,.0f}"


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers from ``low`` to ``high``, about ``count`` of them."""
    if not high > low:
        return [low]
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= 0.75 * raw)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def whiskers(title: str, rows: Sequence[Row], *, names: Sequence[str], width: int = 460, label: int = 130) -> str:
    """A line a row with the marks of each series below each other. A row with one mark shows its number too."""
    alone = all(len(row.marks) == 1 for row in rows)
    right = 62 if alone else 14
    ends = [end for row in rows for _, mark in row.marks for end in mark.ends]
    low, high = min(0.0, *ends), max(ends)
    high = high + 0.03 * (high - low) if high > low else low + 1.0
    at = _linear(low, high, label, width - right)
    parts, top = [], 6.0
    for row in rows:
        height = max(20.0, 9.0 * len(row.marks) + 8.0)
        middle = top + height / 2
        parts.append(f'<text class="label" x="{label - 10}" y="{middle + 4:.1f}" text-anchor="end">{escape(_cut(row.label, 22))}</text>')
        parts.append(f'<line class="rule" x1="{label}" x2="{width - right}" y1="{middle:.1f}" y2="{middle:.1f}"/>' if alone else "")
        for i, (series, mark) in enumerate(row.marks):
            y = middle if alone else top + 8.5 + 9.0 * i
            parts.append(_mark(series, mark, at(mark.value), y, at, f"{names[series]}, {row.label}"))
            if alone:
                parts.append(f'<text class="value" x="{width}" y="{y + 4:.1f}" text-anchor="end">{number(mark.value)}</text>')
        top += height
        if not alone:
            parts.append(f'<line class="rule" x1="0" x2="{width - right}" y1="{top:.1f}" y2="{top:.1f}"/>')
    axis = []
    for tick in ticks(low, high, 4):
        x = at(tick)
        axis.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="4" y2="{top:.1f}"/>')
        axis.append(f'<text class="tick" x="{x:.1f}" y="{top + 14:.1f}" text-anchor="middle">{short(tick)}</text>')
    return _svg(title, width, top + 20, [*axis, *parts])


def lines(
    title: str,
    series: Sequence[Line],
    *,
    x_label: str,
    y_label: str,
    log_x: bool = False,
    x_ticks: Sequence[float] | None = None,
    x_text: Text = short,
    width: int = 460,
    height: int = 250,
) -> str:
    """Lines over x, with whiskers where marks have intervals. The y axis spans the values, not zero."""
    xs = [x for line in series for x, _ in line.points]
    ends = [end for line in series for _, mark in line.points for end in mark.ends]
    low, high = _padded(min(ends), max(ends))
    left, bottom = 58, height - 40
    to_x = (_log if log_x else _linear)(*_padded_x(min(xs), max(xs), log_x), left + 8, width - 12)
    to_y = _linear(low, high, bottom, 10)
    parts = []
    for tick in ticks(low, high):
        y = to_y(tick)
        parts.append(f'<line class="grid" x1="{left}" x2="{width - 6}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{short(tick)}</text>')
    at = x_ticks if x_ticks is not None else ticks(min(xs), max(xs))
    parts += [f'<text class="tick" x="{to_x(x):.1f}" y="{bottom + 16}" text-anchor="middle">{escape(x_text(x))}</text>' for x in at]
    parts.append(f'<line class="axis" x1="{left}" x2="{width - 6}" y1="{bottom}" y2="{bottom}"/>')
    parts.append(f'<text class="tick" x="{(left + width) / 2:.0f}" y="{height - 6}" text-anchor="middle">{escape(x_label)}</text>')
    parts.append(
        f'<text class="tick" transform="translate(12 {bottom / 2 + 5:.0f}) rotate(-90)" text-anchor="middle">{escape(y_label)}</text>'
    )
    for line in series:
        colour = f"s{min(line.series, COLOURS - 1)}"
        if len(line.points) > 1:
            path = " ".join(f"{to_x(x):.1f},{to_y(mark.value):.1f}" for x, mark in line.points)
            parts.append(f'<polyline class="{colour} line" points="{path}"/>')
        for x, mark in line.points if line.dots or len(line.points) == 1 else ():
            parts.append(_dot(line.series, mark, to_x(x), to_y, f"{line.label}, {x_label} {x_text(x)}"))
    return _svg(title, width, height, parts)


def labelled(title: str, points: Sequence[tuple[str, float, Mark]], *, x_label: str, y_label: str, x_text: Text) -> str:
    """Points with names over a logarithmic x axis, each with its interval."""
    spread = sorted({x for _, x, _ in points})
    series = [Line(name, i, [(x, mark)], dots=True) for i, (name, x, mark) in enumerate(points)]
    return lines(title, series, x_label=x_label, y_label=y_label, log_x=True, x_ticks=_apart(spread), x_text=x_text, width=560, height=270)


def cloud(title: str, points: Sequence[tuple[float, float, int, str]], *, width: int = 820, height: int = 560) -> str:
    """Points (x, y, series, name) in a square-scaled plane; names appear on hovering."""
    xs, ys = [p[0] for p in points], [p[1] for p in points]
    scale = min((width - 20) / ((max(xs) - min(xs)) or 1.0), (height - 20) / ((max(ys) - min(ys)) or 1.0))
    centre = ((max(xs) + min(xs)) / 2, (max(ys) + min(ys)) / 2)
    radius = 4 if len(points) < 500 else 3 if len(points) < 2000 else 2.2
    parts = [
        f'<circle class="s{series}" cx="{width / 2 + (x - centre[0]) * scale:.1f}" cy="{height / 2 - (y - centre[1]) * scale:.1f}" '
        f'r="{radius}"><title>{escape(name)}</title></circle>'
        for x, y, series, name in points
    ]
    return _svg(title, width, height, parts, kind="cloud")


def legend(names: Sequence[str], *, first: int = 0) -> str:
    """Names with the colours of the series from ``first`` on."""
    found = (f'<span class="s{min(i, COLOURS - 1)}">{escape(name)}</span>' for i, name in enumerate(names, first))
    return f'<p class="legend">{"".join(found)}</p>'


def _svg(title: str, width: float, height: float, parts: Sequence[str], *, kind: str = "chart") -> str:
    return (
        f'<svg class="{kind}" role="img" aria-label="{escape(title)}" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'style="max-width:{width * 1.3:.0f}px">{"".join(parts)}</svg>'
    )


def _mark(series: int, mark: Mark, x: float, y: float, at: Callable[[float], float], name: str) -> str:
    colour = f"s{min(series, COLOURS - 1)}"
    said = f"<title>{escape(name)}: {_said(mark)}</title>"
    low, high = (at(end) for end in mark.ends)
    whisker = f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>' if high > low else ""
    return f'<g class="{colour} mark">{said}{whisker}<circle cx="{x:.1f}" cy="{y:.1f}" r="3.6"/></g>'


def _dot(series: int, mark: Mark, x: float, to_y: Callable[[float], float], name: str) -> str:
    low, high = (to_y(end) for end in mark.ends)
    whisker = f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}"/>' if low != high else ""
    said = f"<title>{escape(name)}: {_said(mark)}</title>"
    return f'<g class="s{min(series, COLOURS - 1)} mark">{said}{whisker}<circle cx="{x:.1f}" cy="{to_y(mark.value):.1f}" r="3.6"/></g>'


def _said(mark: Mark) -> str:
    if mark.low is None or mark.high is None:
        return number(mark.value)
    return f"{number(mark.value)} [{number(mark.low)}, {number(mark.high)}]"


def _linear(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    span = (high - low) or 1.0
    return lambda value: start + (value - low) / span * (end - start)


def _log(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    inner = _linear(math.log(low), math.log(high), start, end)
    return lambda value: inner(math.log(value))


def _padded(low: float, high: float) -> tuple[float, float]:
    room = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    return (low - room if low < 0 or low - room > 0 else 0.0), high + room


def _padded_x(low: float, high: float, log: bool) -> tuple[float, float]:
    if log:
        return (low / 1.2, high * 1.2)
    return (low, high) if high > low else (low - 1.0, high + 1.0)


def _apart(values: Sequence[float]) -> list[float]:
    """Values that stand far enough from each other on a logarithmic axis to be labelled."""
    kept: list[float] = []
    for value in values:
        if not kept or value > 1.25 * kept[-1]:
            kept.append(value)
    return kept


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
