"""The manifest of an embeddings folder, and the reader of what lies beside it.

Files (format 1)::

    manifest.json           what is embedded: space, bundle, table, files, units, options; ``complete`` is true once
    every unit is done
    units-<i>-of-<N>.jsonl  one line a finished unit of worker i of N: unit, part, rows, bytes, digest
    part-<unit>.parquet     columns ``id``, ``hash`` (fixed_size_binary[16]), ``vector`` (fixed_size_list<float32>[E])

``parent`` and ``tombstones`` are kept for incremental runs: the folder whose unchanged rows a later run points at, and
the ids that have vanished since. A full run has no parent and no tombstones.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from embedkit.config.model import TableConfig
from embedkit.errors import BundleError
from embedkit.files import append_line, atomic_write, file_digest, read_lines
from embedkit.index.base import Vectors
from embedkit.space import Space, canonical_json, digest

FORMAT = 1
MANIFEST = "manifest.json"
_BLOCK = 65_536


@dataclass(frozen=True)
class SourceFile:
    """A file of the catalogue as it was when embedding began: path, bytes, digest of its footer."""

    file: str
    size: int
    digest: str


@dataclass(frozen=True)
class UnitRange:
    """Rows ``start`` to ``stop`` of a file, of which ``rows`` are in the table."""

    file: str
    start: int
    stop: int
    rows: int


@dataclass(frozen=True)
class Source:
    """Where the rows come from: the table of the run file that was read, and the folder its paths start from."""

    name: str
    config: TableConfig
    base: str
    key: str


@dataclass(frozen=True)
class Manifest:
    """What an embeddings folder holds, or will hold.

    Attributes:
        space: of the vectors.
        bundle: folder of the bundle that made them.
        source: the table.
        files: its files.
        units: in order; unit i becomes part i.
        options: what else decides the bytes: batch size, precision.
        parent: for incremental runs.
        tombstones: ids that have vanished since the parent.
        complete: whether every unit is done.
    """

    space: Space
    bundle: str
    source: Source
    files: tuple[SourceFile, ...]
    units: tuple[UnitRange, ...]
    options: dict[str, Any]
    parent: str | None = None
    tombstones: tuple[str, ...] = ()
    complete: bool = False

    @property
    def rows(self) -> int:
        """Rows of all units."""
        return sum(unit.rows for unit in self.units)

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict."""
        data = asdict(self)
        source = {**data["source"], "config": self.source.config.model_dump(mode="json", by_alias=True)}
        head = {"format": FORMAT, "kind": "embeddings", "rows": self.rows}
        return {**head, **data, "space": self.space.to_json(), "source": source}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Manifest:
        """Read what ``to_json`` wrote."""
        source = {**data["source"], "config": TableConfig.model_validate(data["source"]["config"])}
        return cls(
            space=Space.from_json(data["space"]),
            bundle=data["bundle"],
            source=Source(**source),
            files=tuple(SourceFile(**f) for f in data["files"]),
            units=tuple(UnitRange(**u) for u in data["units"]),
            options=data["options"],
            parent=data["parent"],
            tombstones=tuple(data["tombstones"]),
            complete=data["complete"],
        )

    def write(self, folder: Path) -> None:
        """Write it, replacing an older one."""
        atomic_write(folder / MANIFEST, json.dumps(self.to_json(), indent=1, ensure_ascii=False) + "\n")


@dataclass(frozen=True)
class PartLine:
    """A finished unit."""

    unit: int
    part: str
    rows: int
    bytes: int
    digest: str


def part_name(unit: int) -> str:
    """The file of a unit."""
    return f"part-{unit:05d}.parquet"


def units_file(folder: Path, worker: int, workers: int) -> Path:
    """Where a worker notes its finished units."""
    return folder / f"units-{worker}-of-{workers}.jsonl"


def note_part(path: Path, line: PartLine) -> None:
    """Append a finished unit's line."""
    append_line(path, json.dumps(asdict(line)))


def finished(folder: Path) -> dict[int, PartLine]:
    """Unit → its line, for every unit that some worker finished and whose part is there in full length."""
    found: dict[int, PartLine] = {}
    for path in sorted(folder.glob("units-*-of-*.jsonl")):
        for text in read_lines(path):
            line = PartLine(**json.loads(text))
            part = folder / line.part
            if part.is_file() and part.stat().st_size == line.bytes:
                found[line.unit] = line
    return found


@dataclass(frozen=True, eq=False)
class Embeddings:
    """A folder of vectors, opened for reading.

    Attributes:
        path: the folder.
        manifest: what it holds.
        parts: in unit order.
    """

    path: Path
    manifest: Manifest
    parts: tuple[PartLine, ...] = field(repr=False)

    @property
    def space(self) -> Space:
        """The vectors' space."""
        return self.manifest.space

    @property
    def rows(self) -> int:
        """Number of vectors."""
        return sum(part.rows for part in self.parts)

    @property
    def digest(self) -> str:
        """Changes when a vector, an id or the space changes."""
        return digest([canonical_json(self.space.to_json()), *(part.digest.encode() for part in self.parts)])

    def read(self, part: PartLine) -> pa.Table:
        """The rows of one part: id, hash, vector.

        Raises:
            BundleError: the part is missing or damaged.
        """
        path = self.path / part.part
        if not path.is_file() or file_digest(path) != part.digest:
            raise BundleError(f"{path}: is missing or damaged (another checksum); embed again")
        return pq.read_table(path)

    def blocks(self) -> Iterator[tuple[pa.Array, Vectors]]:
        """Ids and vectors float32 [N, E], part by part in row order; memory is a part's.

        Raises:
            BundleError: a part is missing or damaged.
        """
        for part in self.parts:
            table = self.read(part)
            yield table["id"].combine_chunks(), vectors_of(table["vector"], self.space.dim)


def vectors_of(column: pa.ChunkedArray, dim: int) -> Vectors:
    """A column of fixed-size lists as float32 [N, dim]."""
    chunks = [chunk.flatten().to_numpy(zero_copy_only=False).reshape(-1, dim) for chunk in column.chunks]
    return np.concatenate(chunks) if chunks else np.empty((0, dim), np.float32)


def read_manifest(folder: Path) -> Manifest:
    """The manifest of an embeddings folder.

    Raises:
        BundleError: there is none, it is damaged, or it is of a format that this version does not read.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise BundleError(f"{folder}: holds no embeddings (no {MANIFEST}); make some with `embedkit embed`")
    try:
        data = json.loads(path.read_text())
        if data["kind"] != "embeddings":
            raise BundleError(f"{path}: is the manifest of {data['kind']}, not of embeddings")
        if data["format"] != FORMAT:
            raise BundleError(f"{path}: is of format {data['format']}, this version reads {FORMAT}; embed again")
        return Manifest.from_json(data)
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{path}: is damaged ({error}); embed again") from error


def open_embeddings(path: str | Path, *, partial: bool = False) -> Embeddings:
    """Open an embeddings folder.

    Args:
        path: the folder.
        partial: whether units may be missing.

    Raises:
        BundleError: it holds no embeddings, or not all of them.
    """
    folder = Path(path)
    manifest = read_manifest(folder)
    lines = finished(folder)
    missing = [unit for unit in range(len(manifest.units)) if unit not in lines]
    if not partial and (missing or not manifest.complete):
        raise BundleError(f"{folder}: {len(missing)} of {len(manifest.units)} parts are missing; run `embedkit embed` again to finish them")
    return Embeddings(folder, manifest, tuple(lines[unit] for unit in sorted(lines)))
