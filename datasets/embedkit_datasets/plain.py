"""Data sets that are a few plain files, fetched from an address or brought by a person with ``--from``; each is checked by digest."""

from __future__ import annotations

import gzip
import hashlib
import tempfile
import zlib
from abc import abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from embedkit.data.dataset import Card, Dataset, Prepared
from embedkit.errors import DataError
from embedkit.files import make_folder
from embedkit_datasets.download import Remote, download, opened_zip
from embedkit_datasets.files import FETCH_AGAIN, Log, check_digest, read_prepared, write_run_file, write_tables

if TYPE_CHECKING:
    import polars as pl


class PlainDataset(Dataset):
    """What data sets of plain files share.

    Attributes:
        source: where the original files are.
        originals: original file, unpacked → ``sha256:…``.
        prepared_checksums: ``<table>.parquet`` of a prepared copy → ``sha256:…``.
        tables: table that is written → what one row is.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    description: ClassVar[str]
    licence: ClassVar[str]
    citation: ClassVar[str]
    source: ClassVar[str]
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
        """Write the tables and the starter run file into ``out``.

        Raises:
            DataError: a file is missing, cannot be had or parsed, or is not the recorded one.
        """
        frames = self.arrange(self.fetch(log) if prepared is None else self.bring(prepared, log))
        make_folder(out)
        return Prepared(write_tables(frames, out, log), write_run_file(self.name, out, log))

    @abstractmethod
    def fetch(self, log: Log) -> dict[str, pl.DataFrame]:
        """The tables, without ``--from``."""

    def bring(self, folder: Path, log: Log, *, remedy: str = FETCH_AGAIN) -> dict[str, pl.DataFrame]:
        """The tables of a folder with prepared copies."""
        names = {file.removesuffix(".parquet"): file for file in self.prepared_checksums}
        return read_prepared(folder, self.prepared_checksums, names, log, remedy=remedy)

    @abstractmethod
    def parse(self, files: Mapping[str, bytes]) -> dict[str, pl.DataFrame]:
        """The tables of the original files, as prepared copies hold them.

        Raises:
            DataError: a file has another form.
        """

    def arrange(self, frames: dict[str, pl.DataFrame]) -> dict[str, pl.DataFrame]:
        """The tables as they are written, whichever way they came."""
        return frames


class FetchedDataset(PlainDataset):
    """Plain files at addresses that last; archives (``.zip``, ``.gz``) are unpacked.

    Attributes:
        remotes: what is fetched.
    """

    remotes: tuple[Remote, ...]

    def fetch(self, log: Log) -> dict[str, pl.DataFrame]:
        """Download, unpack, check and parse the original files."""
        found: dict[str, bytes] = {}
        with tempfile.TemporaryDirectory(prefix="embedkit-") as folder:
            for remote in self.remotes:
                path = Path(folder) / remote.url.rpartition("/")[2]
                download(remote, path, log)
                found |= self._unpacked(path)
        for file, digest in self.originals.items():
            if "sha256:" + hashlib.sha256(found[file]).hexdigest() != digest:
                raise DataError(f"{file}: its checksum is not the recorded {digest}; the file at the source has changed or is damaged")
        return self.parse({file: found[file] for file in self.originals})

    def _unpacked(self, path: Path) -> dict[str, bytes]:
        if path.suffix == ".zip":
            with opened_zip(path, *self.originals) as archive:
                return {file: archive.read(file) for file in self.originals}
        if path.suffix == ".gz":
            try:
                return {path.stem: gzip.decompress(path.read_bytes())}
            except (OSError, EOFError, zlib.error) as error:
                raise DataError(f"{path.name}: damaged archive ({error}); try again, or use --from with a prepared copy") from error
        return {path.name: path.read_bytes()}


class HandedDataset(PlainDataset):
    """Files that a person must bring, since their terms leave the download to whoever uses them: originals, or prepared copies.

    Attributes:
        reason: why embedkit does not download them.
    """

    reason: ClassVar[str]

    @property
    def _files(self) -> str:
        *others, last = self.originals
        return f"{', '.join(others)} and {last}"

    @property
    def _remedy(self) -> str:
        return f"get {self._files} from {self.source} and name their folder with --from"

    def fetch(self, log: Log) -> dict[str, pl.DataFrame]:
        """Raises ``DataError``: what to get, from where."""
        raise DataError(f"{self.name}: is not downloaded, since {self.reason}; {self._remedy}")

    def bring(self, folder: Path, log: Log, *, remedy: str = FETCH_AGAIN) -> dict[str, pl.DataFrame]:
        """The tables of a folder with the original files, or with prepared copies."""
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder; {self._remedy}")
        if any((folder / file).is_file() for file in self.originals):
            return self._originals(folder)
        if any((folder / file).is_file() for file in self.prepared_checksums):
            return super().bring(folder, log, remedy=self._remedy)
        raise DataError(f"{folder}: holds neither {self._files} nor {', '.join(self.prepared_checksums)}; {self._remedy}")

    def _originals(self, folder: Path) -> dict[str, pl.DataFrame]:
        for file, digest in self.originals.items():
            if not (folder / file).is_file():
                raise DataError(f"{folder / file}: no such file; {self._remedy}")
            check_digest(folder / file, digest, self._remedy)
        return self.parse({file: (folder / file).read_bytes() for file in self.originals})
