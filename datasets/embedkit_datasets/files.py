"""Writing tables and starter run files, and checking files against recorded digests."""

from __future__ import annotations

import hashlib
import importlib.resources
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedkit.errors import DataError
from embedkit.files import atomic_file, atomic_write

if TYPE_CHECKING:
    import polars as pl

Log = Callable[[str], Any]


def sha256_of(path: Path) -> str:
    """``sha256:…`` of a file's bytes."""
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def write_tables(frames: Mapping[str, pl.DataFrame], out: Path, log: Log) -> dict[str, tuple[Path, int]]:
    """Write each table as ``<name>.parquet`` (zstd); returns name → (file, rows)."""
    written: dict[str, tuple[Path, int]] = {}
    for name, frame in frames.items():
        path = out / f"{name}.parquet"
        with atomic_file(path) as beside:
            frame.write_parquet(beside, compression="zstd", statistics=True)
        log(f"wrote {path} ({frame.height:,} rows)")
        written[name] = (path, frame.height)
    return written


def write_run_file(dataset: str, out: Path, log: Log) -> Path:
    """Write the starter run file of a data set into ``out`` as ``run.toml``. One that a person has edited is kept."""
    text = importlib.resources.files("embedkit_datasets").joinpath("runs", f"{dataset}.toml").read_text(encoding="utf-8")
    path = out / "run.toml"
    if path.exists() and path.read_text(encoding="utf-8") != text:
        log(f"kept {path}, which differs from the starter run file; delete it to get a fresh one")
        return path
    atomic_write(path, text)
    log(f"wrote {path}")
    return path


FETCH_AGAIN = "fetch the prepared copy again, or leave out --from to download the original"


def read_prepared(
    folder: Path, checksums: Mapping[str, str], tables: Mapping[str, str], log: Log, *, remedy: str = FETCH_AGAIN
) -> dict[str, pl.DataFrame]:
    """Read prepared Parquet copies after checking each against its recorded digest; ``remedy`` ends the sentence about one that differs.

    Raises:
        DataError: the folder or a table is missing, or a file is not the recorded one.
    """
    import polars as pl

    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; --from wants the folder that holds {', '.join(f'{t}.parquet' for t in tables)}")
    frames = {}
    for table in tables:
        path = folder / f"{table}.parquet"
        if not path.is_file():
            raise DataError(f"{path}: no such file; --from wants a folder that holds {', '.join(f'{t}.parquet' for t in tables)}")
        check_digest(path, checksums[path.name], remedy)
        log(f"read {path}: {checksums[path.name][:19]}… as recorded")
        frames[table] = pl.read_parquet(path)
    return frames


def check_digest(path: Path, wanted: str, remedy: str) -> None:
    """Compare a file with its recorded ``sha256:…``.

    Raises:
        DataError: they differ.
    """
    found = sha256_of(path)
    if found != wanted:
        raise DataError(f"{path}: its checksum is {found}, wanted {wanted}; {remedy}")


def with_valid(frame: pl.DataFrame) -> pl.DataFrame:
    """Every fifth train row of a table with a column ``split`` becomes a ``valid`` row; the test rows stay."""
    import polars as pl

    train = pl.col("split") == "train"
    fifth = train & ((train.cum_sum() - 1) % 5 == 4)
    return frame.with_columns(split=pl.when(fifth).then(pl.lit("valid")).otherwise(pl.col("split")))
