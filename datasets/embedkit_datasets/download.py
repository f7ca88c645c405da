"""Fetching one archive: size and checksum are checked before anybody sees the file."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from embedkit.errors import DataError
from embedkit.files import atomic_file
from embedkit_datasets.files import Log, check_digest

_BLOCK = 1 << 20  # bytes


@dataclass(frozen=True)
class Remote:
    """A file on the net. ``n_bytes`` and ``sha256`` (``sha256:…``) are None where the publisher's packing may change."""

    url: str
    n_bytes: int | None = None
    sha256: str | None = None


def download(remote: Remote, target: Path, log: Log, *, timeout: float = 60.0) -> None:
    """Fetch ``remote`` into ``target``, written beside and renamed once its size and checksum are right.

    Raises:
        DataError: the address cannot be reached, the transfer stopped early, or the bytes are not the recorded ones.
    """
    log(f"downloading {remote.url}")
    with atomic_file(target) as beside:
        n_bytes = _fetch(remote.url, beside, timeout)
        if remote.n_bytes is not None and n_bytes != remote.n_bytes:
            found, wanted = f"{n_bytes:,}", f"{remote.n_bytes:,}"
            raise DataError(f"{remote.url}: got {found} bytes, wanted {wanted}; try again, or use --from with a prepared copy")
        if remote.sha256 is not None:
            try:
                check_digest(beside, remote.sha256, "the file there has changed or the transfer was damaged")
            except DataError as error:
                raise DataError(str(error).replace(str(beside), remote.url, 1)) from None
    log(f"downloaded {n_bytes:,} bytes")


def _fetch(url: str, path: Path, timeout: float) -> int:
    done = 0
    try:
        with urllib.request.urlopen(url, timeout=timeout) as answer, path.open("wb") as file:
            announced = answer.headers.get("Content-Length")
            while block := answer.read(_BLOCK):
                file.write(block)
                done += len(block)
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", None) or error
        raise DataError(f"{url}: cannot be downloaded ({reason}); check the network, or use --from with a prepared copy") from error
    if announced is not None and done != int(announced):
        raise DataError(f"{url}: the transfer stopped after {done:,} of {int(announced):,} bytes; try again")
    return done


@contextmanager
def opened_zip(path: Path, *members: str) -> Iterator[zipfile.ZipFile]:
    """Open an archive that must hold ``members``.

    Raises:
        DataError: it is no zip archive, or a member is missing or damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            absent = [m for m in members if m not in archive.namelist()]
            if absent:
                raise DataError(f"{path.name}: holds no '{absent[0]}', only {', '.join(archive.namelist()[:5])}")
            yield archive
    except zipfile.BadZipFile as error:
        raise DataError(f"{path.name}: damaged zip archive ({error}); try again, or use --from with a prepared copy") from error
