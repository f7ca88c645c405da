"""The files of a table: found, identified, and read by row ranges. CSV is turned into Parquet once, in a stream."""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from embedkit.data.units import UNIT_ROWS
from embedkit.errors import DataError

PARQUET = (".parquet", ".pq")
CSV = (".csv", ".tsv", ".csv.gz", ".tsv.gz")


@dataclass(frozen=True)
class File:
    """One file of a table.

    Attributes:
        label: how it is called in messages and manifests: the path, relative to the run file where it lies below it.
        path: Parquet file that is read: the file itself, or what a CSV file or a grouping was turned into.
        size: bytes of the original.
        digest: blake2b-128 (hex) of the Parquet footer, or of the whole CSV file.
        rows: rows in the file.
        groups: rows of each row group.
        schema: Arrow schema.
    """

    label: str
    path: Path
    size: int
    digest: str
    rows: int
    groups: tuple[int, ...]
    schema: pa.Schema


def find_files(uri: str | Sequence[str], base: Path, *, table: str) -> list[tuple[str, Path]]:
    """(label, path) of every file that the patterns name, in the order of the patterns and sorted within one.

    Raises:
        DataError: a pattern matches no file, or a file is of no format that is read.
    """
    found: list[tuple[str, Path]] = []
    for pattern in [uri] if isinstance(uri, str) else uri:
        full = os.path.join(base, os.path.expanduser(pattern))
        plain = Path(full)
        if plain.is_dir():
            raise DataError(f"table '{table}': '{pattern}' is a folder; name its files, for example '{pattern.rstrip('/')}/*.parquet'")
        paths = [plain] if plain.is_file() else sorted(Path(p) for p in glob.glob(full, recursive=True) if os.path.isfile(p))
        if not paths:
            what = "no file matches" if glob.has_magic(pattern) else "there is no file"
            looked = f" (looked for {plain.absolute()})" if str(plain.absolute()) != pattern else ""
            raise DataError(f"table '{table}': {what} '{pattern}'{looked}")
        found += [(_label(path, base), path) for path in paths]
    for label, path in found:
        if not path.name.lower().endswith(PARQUET + CSV):
            raise DataError(f"table '{table}': {label} is neither Parquet nor CSV (wanted a name ending in {', '.join(PARQUET + CSV)})")
    return list(dict.fromkeys(found))


def _label(path: Path, base: Path) -> str:
    absolute = Path(os.path.abspath(path))
    root = Path(os.path.abspath(base))
    return absolute.relative_to(root).as_posix() if absolute.is_relative_to(root) else absolute.as_posix()


def is_csv(path: Path) -> bool:
    """Whether the file is read as CSV."""
    return path.name.lower().endswith(CSV)


def open_parquet(path: Path, label: str, *, table: str) -> File:
    """Read the footer of a Parquet file.

    Raises:
        DataError: the file is not readable as Parquet.
    """
    with readable(label, table):
        with path.open("rb") as handle:
            size = handle.seek(0, os.SEEK_END)
            if size < 12:
                raise pa.ArrowInvalid(f"it has {size} bytes")
            handle.seek(-8, os.SEEK_END)
            length = int.from_bytes(handle.read(4), "little")
            handle.seek(-min(size, length + 8), os.SEEK_END)
            digest = hashlib.blake2b(handle.read(), digest_size=16).hexdigest()
        with pq.ParquetFile(path) as parquet:
            meta = parquet.metadata
            groups = tuple(meta.row_group(i).num_rows for i in range(meta.num_row_groups))
            return File(label, path, size, digest, meta.num_rows, groups, parquet.schema_arrow)


@contextmanager
def readable(label: str, table: str) -> Iterator[None]:
    """Turn what Arrow raises while reading a Parquet file into a ``DataError``."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
        raise DataError(
            f"table '{table}': {label} cannot be read as Parquet, it may be truncated or damaged: {reason}; write it anew"
        ) from error


@contextmanager
def room(table: str, path: Path) -> Iterator[None]:
    """Turn a failure to write a temporary file into a ``DataError`` that says where it was."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error).splitlines()[0]
        raise DataError(
            f"table '{table}': its rows cannot be written to the temporary folder {path.parent}: {reason}; "
            "make room, or set TMPDIR to a folder on another disk"
        ) from error


class RangeReader:
    """Reads row ranges of one file; ranges that follow each other decode a row group once.

    Args:
        file: what is read.
        columns: names in the file; every column when None.
        table: for messages.
    """

    def __init__(self, file: File, columns: Sequence[str] | None, *, table: str) -> None:
        self.file = file
        self.columns = None if columns is None else list(columns)
        self.table = table
        with readable(file.label, table):
            self._parquet = pq.ParquetFile(file.path)
        self._starts = [0]
        for size in file.groups:
            self._starts.append(self._starts[-1] + size)
        self._batches: Iterator[pa.RecordBatch] | None = None
        self._groups: list[int] = []
        self._at = -1
        self._rest: pa.Table | None = None

    def read(self, start: int, stop: int) -> pa.Table:
        """Rows ``start .. stop`` of the file.

        Raises:
            DataError: the file is damaged there.
        """
        with readable(self.file.label, self.table):
            groups = [i for i in range(len(self.file.groups)) if self._starts[i] < stop and self._starts[i + 1] > start]
            if self._starts[groups[0]] == start and self._starts[groups[-1] + 1] == stop:
                return self._parquet.read_row_groups(groups, columns=self.columns)
            return self._partial(groups, start, stop)

    def _partial(self, groups: list[int], start: int, stop: int) -> pa.Table:
        if self._batches is None or self._groups != groups or self._at > start:
            self._batches = self._parquet.iter_batches(UNIT_ROWS, row_groups=groups, columns=self.columns)
            self._groups, self._at, self._rest = groups, self._starts[groups[0]], None
        pieces: list[pa.Table] = []
        while self._at < stop:
            piece = self._rest if self._rest is not None else pa.Table.from_batches([next(self._batches)])
            first, last = max(start - self._at, 0), min(stop - self._at, piece.num_rows)
            if first < last:
                pieces.append(piece.slice(first, last - first))
            self._rest = piece.slice(last) if last < piece.num_rows else None
            self._at += last if self._rest is not None else piece.num_rows
        return pa.concat_tables(pieces)

    def close(self) -> None:
        """Close the file."""
        self._parquet.close()
