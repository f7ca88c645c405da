"""Data sets that a person must bring: their terms, or the lack of an address that lasts, leave the download to whoever uses them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from embedkit.data.dataset import Card, Dataset, Prepared
from embedkit.errors import DataError
from embedkit.files import make_folder
from embedkit_datasets.files import check_digest, read_prepared, write_run_file, write_tables

if TYPE_CHECKING:
    import polars as pl


class HandedDataset(Dataset):
    """Prepared with ``--from`` alone: a folder with the original files, or with prepared Parquet copies. Both are checked by digest.

    Attributes:
        source: where a person gets the original files.
        originals: original file → ``sha256:…``.
        prepared_checksums: ``<table>.parquet`` → ``sha256:…``.
        reason: why embedkit does not download it.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    description: ClassVar[str]
    licence: ClassVar[str]
    citation: ClassVar[str]
    source: ClassVar[str]
    reason: ClassVar[str]
    originals: Mapping[str, str]
    prepared_checksums: Mapping[str, str]
    tables: ClassVar[dict[str, str]]

    @property
    def card(self) -> Card:
        """The data set's card."""
        return Card(
            name=self.name,
            title=self.title,
            description=self.description,
            licence=self.licence,
            citation=self.citation,
            source=self.source,
            checksums={**self.originals, **self.prepared_checksums},
            tables=self.tables,
        )

    def prepare(self, out: Path, *, prepared: Path | None = None, log: Callable[[str], Any] = lambda line: None) -> Prepared:
        """Write the tables and the starter run file into ``out``, from original files or prepared copies.

        Raises:
            DataError: there is no ``prepared`` (with what to get, and from where), or a file in it is missing or not the recorded one.
        """
        files = " and ".join(filter(None, (", ".join([*self.originals][:-1]), [*self.originals][-1])))
        remedy = f"get {files} from {self.source} and name their folder with --from"
        if prepared is None:
            raise DataError(f"{self.name}: is not downloaded, since {self.reason}; {remedy}")
        if not prepared.is_dir():
            raise DataError(f"{prepared}: no such folder; {remedy}")
        if any((prepared / file).is_file() for file in self.originals):
            frames = self._originals(prepared, remedy)
        elif any((prepared / file).is_file() for file in self.prepared_checksums):
            frames = read_prepared(prepared, self.prepared_checksums, self.tables, log, remedy=remedy)
        else:
            raise DataError(f"{prepared}: holds neither {files} nor {', '.join(self.prepared_checksums)}; {remedy}")
        make_folder(out)
        return Prepared(write_tables(frames, out, log), write_run_file(self.name, out, log))

    def _originals(self, folder: Path, remedy: str) -> dict[str, pl.DataFrame]:
        for file, digest in self.originals.items():
            if not (folder / file).is_file():
                raise DataError(f"{folder / file}: no such file; {remedy}")
            check_digest(folder / file, digest, remedy)
        return self.parse({file: (folder / file).read_bytes() for file in self.originals})

    @abstractmethod
    def parse(self, files: Mapping[str, bytes]) -> dict[str, pl.DataFrame]:
        """The tables of the original files.

        Raises:
            DataError: a file has another form.
        """
