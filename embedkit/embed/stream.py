"""embed: reader → encode threads → bounded queue → device → writer. Memory is a few units, whatever the catalogue's
size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from embedkit.config.model import TableConfig
from embedkit.data.table import Table, open_table
from embedkit.embed.job import BATCH_SIZE, Job, Precision
from embedkit.embed.manifest import (
    MANIFEST,
    Manifest,
    Source,
    SourceFile,
    UnitRange,
    finished,
    read_manifest,
    units_file,
)
from embedkit.embed.writer import PartWriter
from embedkit.errors import BundleError, SpaceMismatch, UsageError
from embedkit.files import locked, unmade_on_error

if TYPE_CHECKING:
    from embedkit.bundle import Bundle


def embed(
    bundle: Bundle,
    out: str | Path,
    *,
    table: str | Sequence[str] | TableConfig | None = None,
    base: str | Path | None = None,
    tower: str | None = None,
    workers: int = 1,
    worker: int = 0,
    batch_size: int = BATCH_SIZE,
    precision: Precision = "float32",
    device: str | torch.device = "cpu",
    threads: int = 2,
    force: bool = False,
    log: Callable[[str], Any] = lambda line: None,
) -> Manifest:
    """Embed every row of a catalogue with one tower; a run that was interrupted goes on where it stopped.

    A unit is a row range of one file; it becomes one Parquet part by write-then-rename, and a line in the notes of its
    worker. Equal inputs with equal units and options give equal files, however often the run was killed in between.

    Args:
        bundle: loaded bundle.
        out: folder of the embeddings, made if missing.
        table: files of the catalogue (read as the bundle's table is: ``where``, ``group`` and the rest apply), or a
            whole table description; the bundle's own table when left out.
        base: folder that relative paths start from; the current one for ``table``, the run file's for the bundle's own.
        tower: which tower; needed where several stand over tables with a key.
        workers: number of processes that share the work, without a coordinator.
        worker: which of them this is, from 0.
        batch_size: rows a forward.
        precision: ``bfloat16`` runs the forward in mixed precision; vectors are stored as float32 either way.
        device: where the model runs.
        threads: threads that encode.
        force: throw away what stands in ``out`` if it is of another space, catalogue or option.
        log: called with one line a part.

    Returns:
        The manifest; ``complete`` is False while other workers have units to finish.

    Raises:
        UsageError: options contradict each other, or ``out`` holds embeddings of another catalogue, or other files.
        SpaceMismatch: ``out`` holds embeddings of another bundle.
        DataError: a column is missing or holds what it must not, the key has duplicates or nulls, or the disk is full.
            Finished parts stay, and the manifest is not marked complete.
    """
    if not 0 <= worker < workers:
        raise UsageError(f"worker {worker} of {workers}: workers are counted from 0 to {workers - 1}")
    if batch_size < 1:
        raise UsageError(f"batch_size = {batch_size}: at least one row is needed")
    folder = Path(out)
    tower = bundle.tower(tower)
    source = _source(bundle, tower, table, base)
    opened = open_table(source.config, source.name, Path(source.base))
    job = Job(bundle, tower, opened, source.key, batch_size, torch.device(device), precision, threads)
    job.check()
    planned = _plan(bundle, tower, opened, source, {"batch_size": batch_size, "precision": precision})
    with unmade_on_error(folder, keep=lambda: workers > 1 or any(folder.glob("part-*.parquet"))):
        _prepare(folder, planned, force=force)
        with locked(folder / f".lock-{worker}-of-{workers}", f"the share of worker {worker} in {folder}"):
            return _work(job, planned, folder, worker, workers, log)


def _work(job: Job, planned: Manifest, folder: Path, worker: int, workers: int, log: Callable[[str], Any]) -> Manifest:
    """Do a worker's share of the units, and mark the manifest complete when nobody has any left."""
    done = finished(folder)
    units = len(planned.units)
    mine = [unit for unit in range(units) if unit % workers == worker and unit not in done]
    log(f"{units} unit{'s' if units != 1 else ''}, {len(done)} done, {len(mine)} to do here, {planned.rows:,} rows in all")
    with PartWriter(folder, units_file(folder, worker, workers), planned.space.dim) as writer:
        job.run(mine, writer, log)
    if len(finished(folder)) == units:
        planned = replace(planned, complete=True)
        planned.write(folder)
        log(f"complete: {planned.rows:,} vectors of width {planned.space.dim}")
    return planned


def _source(bundle: Bundle, tower: str, table: str | Sequence[str] | TableConfig | None, base: str | Path | None) -> Source:
    """The table that is read, with absolute base."""
    name = bundle.schema.towers[tower].table
    for spec in bundle.schema.tower_fields(tower):
        if spec.table != name or spec.column is None:
            raise UsageError(
                f"tower '{tower}' reads field '{spec.name}', which no column of table '{name}' holds, so it cannot be embedded row by row; "
                "choose another tower, or search with it"
            )
    config = bundle.meta.tables[name]
    if isinstance(table, TableConfig):
        config = table
    elif table is not None:
        config = config.model_copy(update={"uri": table if isinstance(table, str) else list(table)})
    key = config.key or (config.group.by if config.group else None) or bundle.schema.keys.get(name)
    if key is None:
        raise UsageError(f"table '{name}' has no key, so its vectors could not be found again; set tables.{name}.key in the run file")
    start = Path(base) if base is not None else Path(bundle.meta.base) if table is None else Path.cwd()
    return Source(name, config if config.group else config.model_copy(update={"key": key}), str(start.resolve()), key)


def _plan(bundle: Bundle, tower: str, table: Table, source: Source, options: dict[str, Any]) -> Manifest:
    files = tuple(SourceFile(file.label, file.size, file.digest) for file in table.files)
    units = tuple(UnitRange(unit.file, unit.start, unit.stop, unit.rows) for unit in table.units)
    return Manifest(bundle.spaces[tower], str(bundle.path.resolve()), source, files, units, options)


def _prepare(folder: Path, planned: Manifest, *, force: bool) -> None:
    """Make the folder ready: new, or holding an unfinished run of the same plan."""
    if (folder / MANIFEST).is_file():
        there = read_manifest(folder)
        problem = _difference(there, planned, folder)
        if problem is None:
            return
        if not force:
            raise problem
        for path in [folder / MANIFEST, *folder.glob("units-*.jsonl"), *folder.glob("part-*.parquet")]:
            path.unlink(missing_ok=True)
    elif folder.is_dir() and any(not path.name.startswith(".") for path in folder.iterdir()):
        raise UsageError(f"{folder}: is not empty and holds no embeddings; choose another folder")
    elif folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder}: is a file; name a folder for the embeddings")
    planned.write(folder)


def _difference(there: Manifest, planned: Manifest, folder: Path) -> BundleError | UsageError | None:
    """Why an unfinished run cannot be continued as planned, or None."""
    again = "give the same, name another folder, or start anew with --force"
    if there.space.id != planned.space.id:
        return SpaceMismatch(
            f"{folder}: holds vectors of space {there.space.id[:12]} (tower {there.space.tower}), the bundle gives "
            f"{planned.space.id[:12]} (tower {planned.space.tower}); {again}"
        )
    if (there.files, there.units) != (planned.files, planned.units) or there.source.config != planned.source.config:
        changed = next((f.file for f in planned.files if f not in there.files), "its description or its files")
        return UsageError(f"{folder}: was begun with another state of table '{planned.source.name}' ({changed} changed); {again}")
    for key, value in planned.options.items():
        if there.options.get(key) != value:
            return UsageError(f"{folder}: was begun with {key} {there.options.get(key)}, now it is {value}; {again}")
    return None
