"""Embeddings folders made by hand, and backends."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embedkit.config.model import TableConfig
from embedkit.config.plan import Part
from embedkit.data.files import open_parquet
from embedkit.embed.manifest import Manifest, PartLine, Source, SourceFile, UnitRange, note_part, part_name, units_file
from embedkit.files import file_digest
from embedkit.host import Host
from embedkit.registry import Registry
from embedkit.space import Space

DIM = 16


@pytest.fixture(scope="session")
def registry() -> Registry:
    return Host.load().registry


@pytest.fixture(scope="session")
def backend(registry: Registry) -> Callable[..., Part]:
    def make(name: str = "hnsw", **options: Any) -> Part:
        entry = registry.entry("index", name)
        return Part(entry, entry.parse(options, where="test"))

    return make


@pytest.fixture(scope="session")
def embeddings() -> Callable[..., Path]:
    return write_embeddings


def write_embeddings(folder: Path, vectors: np.ndarray, *, unit: int = 1_000, ids: pa.Array | None = None, name: str = "s") -> Path:
    """What ``embed`` would write for a catalogue with these vectors: ids ``item-0`` …, units of ``unit`` rows."""
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
        space=Space(name, "family", "item", vectors.shape[1], (4, 8, vectors.shape[1])),
        bundle=str(folder.parent / "bundle"),
        source=Source("items", TableConfig(uri=catalogue.name, key="item_id"), str(folder.parent), "item_id"),
        files=(SourceFile(found.label, found.size, found.digest),),
        units=tuple(units),
        options={"batch_size": 64},
        complete=True,
    ).write(folder)
    return folder
