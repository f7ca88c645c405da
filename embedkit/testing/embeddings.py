"""An embeddings folder without a model: what ``embed`` would write for a catalogue with given vectors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from embedkit.config.model import TableConfig
from embedkit.data.files import open_parquet
from embedkit.embed.manifest import Manifest, PartLine, Source, SourceFile, UnitRange, note_part, part_name, units_file
from embedkit.files import file_digest
from embedkit.index.base import Vectors
from embedkit.space import Space


def write_embeddings(
    folder: Path, vectors: Vectors, *, unit: int = 1_000, ids: pa.Array | None = None, name: str = "s", prefixes: tuple[int, ...] = ()
) -> Path:
    """Write a catalogue beside ``folder`` and the parts in it; returns ``folder``.

    Args:
        folder: new folder.
        vectors: float32 [M, E].
        unit: rows a part.
        ids: of the rows; ``item-0`` … when left out.
        name: id of the space.
        prefixes: nested widths below E.
    """
    folder.mkdir(parents=True)
    ids = pa.array([f"item-{i}" for i in range(len(vectors))]) if ids is None else ids
    catalogue = folder.parent / f"{folder.name}-catalogue.parquet"
    columns = {"item_id": ids, "colour": pa.array(["red" if i % 10 == 0 else "blue" for i in range(len(vectors))])}
    pq.write_table(pa.table({**columns, "price": pa.array(np.arange(len(vectors)) / 10)}), catalogue, row_group_size=unit)
    found = open_parquet(catalogue, catalogue.name, table="items")
    units = []
    for number, start in enumerate(range(0, len(vectors), unit)):
        block = vectors[start : start + unit]
        values = pa.FixedSizeListArray.from_arrays(pa.array(block.ravel()), block.shape[1])
        hashes = pa.array([i.to_bytes(16, "little") for i in range(len(block))], pa.binary(16))
        path = folder / part_name(number)
        pq.write_table(pa.table({"id": ids.slice(start, len(block)), "hash": hashes, "vector": values}), path)
        note_part(units_file(folder, 0, 1), PartLine(number, path.name, len(block), path.stat().st_size, file_digest(path)))
        units.append(UnitRange(catalogue.name, start, start + len(block), len(block)))
    Manifest(
        space=Space(name, "family", "item", vectors.shape[1], (*prefixes, vectors.shape[1])),
        bundle=str(folder.parent / "bundle"),
        source=Source("items", TableConfig(uri=catalogue.name, key="item_id"), str(folder.parent), "item_id"),
        files=(SourceFile(found.label, found.size, found.digest),),
        units=tuple(units),
        options={"batch_size": 64},
        complete=True,
    ).write(folder)
    return folder
