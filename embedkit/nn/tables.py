"""What an encoder says of its embedding tables: how large they are, and how often values meet in a row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Collisions:
    """How often the values of a field meet in a table.

    Attributes:
        size: values, the unknown one included.
        first: share of them whose first row is the first row of another value of the field.
        full: share of them all of whose rows are, in order, another value's: nothing tells these apart.
        between: share of them whose first row a value of another domain reads too.
    """

    size: int
    first: float = 0.0
    full: float = 0.0
    between: float = 0.0


@dataclass(frozen=True)
class TableReport:
    """The tables of one encoder.

    Attributes:
        kind: how values find their rows, such as ``collisionless`` or ``unified``.
        tables: how many tables there are.
        rows: rows of all of them.
        width: numbers a row.
        bytes: of the tables; what an optimiser keeps for them comes on top.
        fields: field → its collisions.
    """

    kind: str
    tables: int
    rows: int
    width: int
    bytes: int
    fields: Mapping[str, Collisions] = field(default_factory=dict)
