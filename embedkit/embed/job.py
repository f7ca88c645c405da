"""Job: the pipeline that embeds units. Reading, encoding and writing have threads of their own; the caller's thread
runs the model.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import torch

from embedkit.data.batch import Batch
from embedkit.data.table import Table
from embedkit.data.units import Unit
from embedkit.embed.rowhash import row_hashes
from embedkit.embed.writer import PartWriter
from embedkit.errors import EmbedkitError
from embedkit.index.base import Vectors
from embedkit.pace import Pace

if TYPE_CHECKING:
    from embedkit.bundle import Bundle

Precision = Literal["float32", "bfloat16"]
BATCH_SIZE = 1_024
_QUEUE = 8
"""Batches that may be encoded ahead of the device."""


@dataclass(frozen=True, eq=False)
class Encoded:
    """A slice of a unit, ready for the model."""

    ids: pa.Array
    hashes: list[bytes]
    batch: Batch


@dataclass(frozen=True, eq=False)
class Job:
    """What reads, encodes and embeds.

    Attributes:
        bundle: the model and its codecs.
        tower: which tower.
        table: the catalogue.
        key: its id column.
        batch_size: rows a forward. Batches never span units, so a unit's vectors depend on the unit alone.
        device: where the model runs.
        precision: of the forward.
        threads: threads that encode.
    """

    bundle: Bundle
    tower: str
    table: Table
    key: str
    batch_size: int
    device: torch.device
    precision: Precision
    threads: int

    @property
    def fields(self) -> tuple[str, ...]:
        """Fields of the tower."""
        return self.bundle.schema.towers[self.tower].fields

    @property
    def columns(self) -> list[str]:
        """Columns that are read, the key first."""
        specs = self.bundle.schema.tower_fields(self.tower)
        return list(dict.fromkeys([self.key, *(spec.column or spec.name for spec in specs)]))

    def check(self) -> None:
        """Look for wrong columns before anything is written.

        Raises:
            DataError: a column is missing or of a type that its field cannot be.
        """
        self.table.require(self.columns)
        empty = self.table.schema.empty_table().select(self.columns)
        self.bundle.codecs.encode(empty, self.fields, path=self.table.files[0].label)

    def run(self, units: Sequence[int], writer: PartWriter, log: Callable[[str], Any]) -> None:
        """Embed some units, in order.

        Raises:
            DataError: a value is not what its field must be; the units before it are written.
        """
        self.bundle.model.to(self.device)
        pace, done = Pace(log, sum(self.table.units[unit].rows for unit in units)), 0
        with ThreadPoolExecutor(max(1, self.threads), thread_name_prefix="embedkit-encode") as pool:
            slices = _ahead(self._slices(units), pool, self._encode)
            for unit in units:
                pieces, vectors = self._unit(self.table.units[unit], slices)
                ids = pa.concat_arrays([piece.ids for piece in pieces])
                writer.write(unit, ids, [h for piece in pieces for h in piece.hashes], vectors)
                done += len(ids)
                log(f"unit {unit}: {pace.text(done)}")

    def _unit(self, unit: Unit, slices: Iterator[Encoded]) -> tuple[list[Encoded], Vectors]:
        """Take the slices of one unit, and embed each as it comes."""
        vectors = np.empty((unit.rows, self.bundle.spaces[self.tower].dim), np.float32)
        pieces, row = [], 0
        while row < unit.rows:
            piece = next(slices)
            vectors[row : row + len(piece.ids)] = self._forward(piece.batch)
            row += len(piece.ids)
            pieces.append(Encoded(piece.ids, piece.hashes, Batch({})))
        return pieces, vectors

    def _forward(self, batch: Batch) -> Vectors:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            vectors = self.bundle.model.encode(batch.to(self.device), self.tower)
        return np.asarray(vectors.float().cpu().numpy())

    def _slices(self, units: Sequence[int]) -> Iterator[tuple[Unit, int, pa.Table]]:
        """Read units one ahead, cut them into batches."""
        wanted = [self.table.units[unit] for unit in units]
        scan = self.table.scan(self.columns, wanted)
        with ThreadPoolExecutor(1, thread_name_prefix="embedkit-read") as reader:
            coming = reader.submit(next, scan, None)
            for unit in wanted:
                found = coming.result()
                assert found is not None
                coming = reader.submit(next, scan, None)
                for start in range(0, unit.rows, self.batch_size):
                    yield unit, start, found[1].slice(start, self.batch_size)

    def _encode(self, piece: tuple[Unit, int, pa.Table]) -> Encoded:
        unit, start, rows = piece
        batch = self.bundle.codecs.encode(rows, self.fields, path=unit.file, first_row=unit.start + start)
        ids = rows[self.key].combine_chunks()
        return Encoded(ids, row_hashes(batch, self.fields), batch)


def _ahead(
    pieces: Iterator[tuple[Unit, int, pa.Table]],
    pool: ThreadPoolExecutor,
    work: Callable[[tuple[Unit, int, pa.Table]], Encoded],
) -> Iterator[Encoded]:
    """The work on each piece, in order, with a bounded number of pieces in progress.

    When the source of the pieces fails, what was read before is still worked on and given out first.
    """
    waiting: deque[Future[Encoded]] = deque()
    failure: Exception | None = None
    try:
        for piece in pieces:
            waiting.append(pool.submit(work, piece))
            if len(waiting) > _QUEUE:
                yield waiting.popleft().result()
    except EmbedkitError as error:
        failure = error
    while waiting:
        yield waiting.popleft().result()
    if failure is not None:
        raise failure
