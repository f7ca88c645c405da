"""Concatenated: several bundles' vectors of the same rows side by side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from embedkit.errors import UsageError
from embedkit.index.base import Vectors
from embedkit.serve.encode import Embedder
from embedkit.serve.frames import Frame, to_arrow


class Concatenated:
    """Embedders read side by side: what multistage contrastive learning hands on (Zhang et al. 2024).

    Each block is brought to unit length first, so that no bundle's scale drowns the others, and the whole has unit length again: a cosine
    of two such vectors is the mean of the blocks' cosines. They are vectors to compute with, and belong to no ``Space``: an index takes
    those of one bundle.

    Attributes:
        embedders: in the order of the blocks.
    """

    def __init__(self, embedders: Sequence[Embedder]) -> None:
        if not embedders:
            raise UsageError("concatenate: name one bundle at least")
        self.embedders = tuple(embedders)

    def encode(self, frame: Frame, tower: str | None = None, *, batch_size: int = 1_024) -> Vectors:
        """Vectors of rows, float32 [rows, sum of the widths]; see ``Embedder.encode``.

        Raises:
            UsageError: a bundle has no such tower, or the frame is of no known kind.
            DataError: a column is missing, or a value is not what its field must be.
        """
        table = to_arrow(frame)
        blocks = [embedder.encode(table, tower, batch_size=batch_size) for embedder in self.embedders]
        lengths = [np.linalg.norm(block, axis=1, keepdims=True) for block in blocks]
        units = [block / np.where(length > 0, length, 1.0) for block, length in zip(blocks, lengths, strict=True)]
        return np.ascontiguousarray(np.hstack(units) / np.sqrt(len(units)), dtype=np.float32)
