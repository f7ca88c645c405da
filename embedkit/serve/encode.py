"""Embedder: a loaded bundle that turns frames of rows into vectors."""

from __future__ import annotations

import numpy as np

from embedkit.bundle import Bundle
from embedkit.errors import UsageError
from embedkit.index.base import Vectors
from embedkit.index.vectors import cut
from embedkit.serve.frames import Frame, encode_rows, to_arrow
from embedkit.space import Space


class Embedder:
    """Rows in, vectors out.

    Attributes:
        bundle: the model, its codecs and its spaces.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle

    def __repr__(self) -> str:
        towers = ", ".join(f"{name} [{space.dim}]" for name, space in self.bundle.spaces.items())
        return f"Embedder({self.bundle.meta.name!r}: {towers})"

    @property
    def space(self) -> Space:
        """The space of the default tower: the only one, or the only one over a table with a key.

        Raises:
            UsageError: there is more than one such tower; use ``bundle.spaces``.
        """
        return self.bundle.spaces[self.bundle.tower()]

    def encode(
        self,
        frame: Frame,
        tower: str | None = None,
        prefix: int | None = None,
        *,
        partial: bool = False,
        batch_size: int = 1_024,
    ) -> Vectors:
        """Vectors of rows.

        Args:
            frame: a polars or pandas data frame, an Arrow table, a list of dicts (rows), or a dict of columns, with a
                column for each field of the tower. Other columns do no harm. A sequence is a list of ids, oldest first.
            tower: whose vectors; the default tower when left out.
            prefix: keep the first so many numbers (one of the space's prefixes), of unit length again for normalised
                spaces.
            partial: let columns be absent: their fields are unknown then, not missing. Columns of no field are refused in return.
            batch_size: rows a forward.

        Returns:
            float32 [rows, width].

        Raises:
            UsageError: there is no such tower or prefix, or the frame is of no known kind.
            DataError: a column is missing, or a value is not what its field must be (column and row are named).
        """
        name = self.bundle.tower(tower)
        space = self.bundle.spaces[name]
        if prefix is not None and prefix not in space.prefixes:
            raise UsageError(f"prefix {prefix}: the vectors of tower '{name}' have the prefixes {', '.join(map(str, space.prefixes))}")
        table = to_arrow(frame)
        vectors = encode_rows(self.bundle, name, table, partial=partial, batch_size=batch_size)
        return np.ascontiguousarray(cut(vectors, prefix, cosine=space.normalized))
