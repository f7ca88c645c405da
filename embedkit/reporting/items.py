"""Items: their vectors on two axes, and what they are called."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from embedkit.evaluate.metrics import Floats, Ints
from embedkit.evaluate.vectors import row_vectors
from embedkit.reporting.svg import COLOURS

if TYPE_CHECKING:
    from embedkit.bundle import Bundle
    from embedkit.data.store import Store
    from embedkit.data.table import Table

_LONGEST = 70
_NAMES = ("title", "name", "label", "description")


def principal(vectors: Floats) -> tuple[Floats, Floats]:
    """The first two principal components of vectors [n, E] in float64: places [n, 2], and the share of the variance of each [2]."""
    centred = vectors - vectors.mean(axis=0)
    values, axes = np.linalg.eigh(centred.T @ centred)
    axes = axes[:, ::-1][:, :2]
    axes = axes * np.where(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])] < 0, -1.0, 1.0)  # one sign, whatever LAPACK gives
    places = centred @ axes
    if places.shape[1] < 2:  # vectors of one number
        places = np.pad(places, ((0, 0), (0, 1)))
    shares = np.maximum(values[::-1][:2], 0.0) / max(float(values.sum()), 1e-300)
    return places, np.resize(np.append(shares, 0.0), 2) if len(shares) < 2 else shares


@dataclass(frozen=True, eq=False)
class Map:
    """A sample of the items on two axes.

    Attributes:
        points: (x, y, colour, name) each.
        groups: the colours' names, the last one for what has none of its own; empty where nothing tells items apart.
        field: what the colours show.
        shares: of the variance, by axis.
        shown: items in the sample.
        total: items there are.
    """

    points: list[tuple[float, float, int, str]]
    groups: list[str]
    field: str | None
    shares: tuple[float, float]
    shown: int
    total: int


def item_map(bundle: Bundle, store: Store, tower: str, *, most: int, seed: int) -> Map:
    """Draw at most ``most`` rows of a tower's table, embed them, and place them by their principal components."""
    table = store.tables[bundle.schema.towers[tower].table]
    chosen = np.arange(table.rows)
    if table.rows > most:
        chosen = np.sort(np.random.default_rng(seed).choice(table.rows, most, replace=False))
    places, shares = principal(row_vectors(bundle.model, store, tower, chosen).double().numpy())
    names = Names(store, table.name).of(chosen)
    field, groups, colours = _colours(store, table, chosen)
    points = [(float(x), float(y), colour, name) for (x, y), colour, name in zip(places, colours, names, strict=True)]
    return Map(points, groups, field, (float(shares[0]), float(shares[1])), len(chosen), table.rows)


class Names:
    """What the rows of a table are called: its column of titles, else its key, else a number.

    Args:
        store: where the table is.
        table: its name.
    """

    def __init__(self, store: Store, table: str) -> None:
        self._table = store.tables[table]
        texts = [spec.column or spec.name for spec in store.schema.of_table(table) if spec.type.rpartition(":")[2] == "text"]
        likely = [column for word in _NAMES for column in texts if word in column.lower()]
        titles = [column for column in self._table.columns if column.lower() in _NAMES]
        self.column = next(iter([*likely, *titles, *texts]), None)

    def of(self, rows: Ints) -> list[str]:
        """The names of some rows, cut to a readable length; a row without a name is called by its key."""
        columns = list(dict.fromkeys(c for c in (self.column, self._table.key) if c is not None))
        wanted, back = np.unique(rows, return_inverse=True)
        read = read_rows(self._table, columns, wanted)
        found = []
        for i, row in enumerate(wanted):
            values = [read[column][i] for column in columns]
            text = next((str(value) for value in values if value is not None and str(value).strip()), f"row {row}")
            found.append(text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…")
        return [found[i] for i in back]


def read_rows(table: Table, columns: Sequence[str], rows: Ints) -> dict[str, list[Any]]:
    """Values of some columns at some rows (ascending, distinct), read unit by unit."""
    found: dict[str, list[Any]] = {column: [] for column in columns}
    for first, frame in table.scan(columns) if columns else ():
        here = rows[np.searchsorted(rows, first) : np.searchsorted(rows, first + frame.num_rows)] - first
        if len(here):
            for column in columns:
                found[column] += frame.column(column).take(here).to_pylist()
    return found


def _colours(store: Store, table: Table, rows: Ints) -> tuple[str | None, list[str], list[int]]:
    """The category field whose most frequent values tell most of the rows apart: its name, its values, and the colour of each row."""
    best: tuple[float, str | None, list[str], list[int]] = (0.0, None, [], [0] * len(rows))
    for spec in store.schema.of_table(table.name):
        kind, column = spec.type.rpartition(":")[2], spec.column or spec.name
        if spec.role != "feature" or kind not in ("category", "categories"):
            continue
        values = [_first(value) for value in read_rows(table, [column], rows)[column]]
        counts = Counter(value for value in values if value is not None)
        kept = [value for value, _ in counts.most_common(COLOURS - 1)]
        covered = sum(counts[value] for value in kept) / max(1, len(rows))
        largest = counts[kept[0]] / len(rows) if kept else 1.0
        score = covered * (1.0 - largest)  # a field that is nearly constant, or nearly a key, shows nothing
        if len(kept) > 1 and score > best[0]:
            place = {value: i for i, value in enumerate(kept)}
            best = score, spec.name, kept, [place.get(value, COLOURS - 1) if value is not None else COLOURS - 1 for value in values]
    return best[1:]


def _first(value: Any) -> str | None:
    """A value as text; the first of a list."""
    if isinstance(value, (list, tuple)):
        value = value[0] if value else None
    return None if value is None or value != value else str(value)
