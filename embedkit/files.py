"""Files that a crash cannot tear: write beside, flush to disk, rename. And digests, so that a damaged file is noticed.

A reader sees the old file or the new one, never a part (wall 8). A process that is killed may leave a ``.NAME.tmp-…``
sibling behind;
``remove_leftovers`` clears those of one target.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from embedkit.errors import DataError, EmbedkitError, UsageError

_CHUNK = 1 << 20
_SEAL = "digest"
_FULL = (errno.ENOSPC, errno.EDQUOT)
_FULL_TEXT = ("No space left on device", "Disk quota exceeded")


@contextmanager
def write_errors(path: Path | str) -> Iterator[None]:
    """Turn what the system says about writing into one sentence that names ``path``.

    Libraries report a full disk in their own ways (Arrow by errno, safetensors and polars in the text), so both are
    looked at.

    Raises:
        DataError: the disk is full.
        UsageError: the place cannot be written.
    """
    try:
        yield
    except EmbedkitError:
        raise
    except Exception as error:
        if getattr(error, "errno", None) in _FULL or any(text in str(error) for text in _FULL_TEXT):
            raise DataError(f"{path}: no space left on the disk; free some space and start again") from error
        if isinstance(error, PermissionError):
            raise UsageError(f"{path}: may not be written; choose another place or change its permissions") from error
        if getattr(error, "errno", None) == errno.EROFS:
            raise UsageError(f"{path}: lies on a read-only disk; choose another place") from error
        if isinstance(error, (NotADirectoryError, FileExistsError)):
            raise UsageError(f"{path}: a file stands where a folder is wanted ({error.filename}); choose another place") from error
        raise


def make_folder(path: Path) -> Path:
    """Make a folder with its parents; an existing one is kept.

    Raises:
        UsageError: it cannot be made.
    """
    with write_errors(path):
        path.mkdir(parents=True, exist_ok=True)
    return path


@contextmanager
def unmade_on_error(folder: Path | str, keep: Callable[[], bool]) -> Iterator[None]:
    """Leave no trace of a folder that an ``EmbedkitError`` ends before anything in it is worth keeping.

    A folder that was not there is removed again, with the parents that were made for it; one that was empty is emptied. Other folders,
    and other errors (an interrupt, a crash: what is there may be resumed), leave everything as it is.

    Args:
        folder: where something is about to be written.
        keep: asked after an error: whether the folder holds something that later work can use.
    """
    folder = Path(folder)
    missing = [path for path in (folder, *folder.absolute().parents) if not path.exists()]
    untouched = bool(missing) or (folder.is_dir() and not any(folder.iterdir()))
    try:
        yield
    except EmbedkitError:
        if untouched and not keep():
            for path in folder.iterdir() if folder.is_dir() else ():
                _remove(path)
            for path in missing:
                with suppress(OSError):  # a parent that somebody else uses by now
                    path.rmdir()
        raise


def sync_file(path: Path) -> None:
    """Wait until the file's content is on the disk."""
    _sync(path, os.O_RDONLY)


def sync_folder(path: Path) -> None:
    """Wait until the folder's entries (renames, new files) are on the disk. A no-op where folders cannot be opened
    (Windows).
    """
    if os.name == "posix":
        _sync(path, os.O_RDONLY | os.O_DIRECTORY)


def _sync(path: Path, flags: int) -> None:
    handle = os.open(path, flags)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.tmp-{secrets.token_hex(6)}")


def remove_leftovers(path: Path) -> None:
    """Remove what killed writers of ``path`` left beside it. Call it only where nobody else can be writing it."""
    for left in path.parent.glob(f".{path.name}.tmp-*"):
        _remove(left)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def atomic_file(path: Path | str) -> Iterator[Path]:
    """Yield a path beside ``path`` to write to; afterwards it is flushed and renamed to ``path``. On failure it is
    removed.

    Raises:
        DataError, UsageError: as ``write_errors``.
    """
    path = Path(path)
    with write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = _beside(path)
        try:
            yield beside
            sync_file(beside)
            os.replace(beside, path)
        except BaseException:
            _remove(beside)
            raise
        sync_folder(path.parent)


def atomic_write(path: Path | str, data: bytes | str) -> None:
    """Write a whole file (text as UTF-8) so that a reader, or a crash, finds the old content or the new, never a part.

    Raises:
        DataError, UsageError: as ``write_errors``.
    """
    with atomic_file(path) as beside:
        beside.write_bytes(data.encode() if isinstance(data, str) else data)


@contextmanager
def atomic_folder(path: Path | str, *, replace: bool = False) -> Iterator[Path]:
    """Yield an empty folder beside ``path`` to fill; afterwards all of it is flushed and renamed to ``path``. On
    failure it is removed.

    Args:
        path: target. Its parents are made.
        replace: whether an existing target is replaced. It is moved aside first and removed last, so a crash leaves one
            of the two whole.

    Raises:
        UsageError: the target exists and ``replace`` is False, or cannot be written.
        DataError: the disk is full.
    """
    path = Path(path)
    with write_errors(path):
        if not replace and path.exists():
            raise UsageError(f"{path}: already exists; remove it or choose another place")
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = _beside(path)
        beside.mkdir()
        try:
            yield beside
            _sync_tree(beside)
            _swap_in(beside, path)
        except BaseException:
            _remove(beside)
            raise
        sync_folder(path.parent)


def _sync_tree(folder: Path) -> None:
    for inner, _, names in os.walk(folder):
        for name in names:
            sync_file(Path(inner) / name)
        sync_folder(Path(inner))


def _swap_in(beside: Path, path: Path) -> None:
    if not path.exists():
        os.rename(beside, path)
        return
    aside = _beside(path)
    os.rename(path, aside)
    try:
        os.rename(beside, path)
    except BaseException:
        os.rename(aside, path)
        raise
    _remove(aside)


@contextmanager
def locked(path: Path | str, what: str) -> Iterator[None]:
    """Hold the lock file ``path``; ``what`` (such as "the index shop/") stands in the message. The lock ends with the
    process.

    Raises:
        UsageError: another process holds it.
    """
    path = Path(path)
    make_folder(path.parent)
    with ExitStack() as stack:
        with write_errors(path):
            handle = stack.enter_context(open(path, "ab"))
        if os.name == "posix":
            import fcntl

            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UsageError(f"{what} is being written by another process; wait until it is done") from error
        yield


def append_line(path: Path | str, line: str) -> None:
    """Append one line and flush it to disk. A crash may leave a last line without its newline: readers drop such a
    line.

    A torn last line of an earlier crash is cut off first, so that it cannot run into this one.

    Raises:
        DataError, UsageError: as ``write_errors``.
    """
    assert "\n" not in line
    path = Path(path)
    with write_errors(path), open(path, "a+b") as handle:
        size = handle.seek(0, os.SEEK_END)
        whole = _whole_lines(handle, size)
        if whole != size:
            handle.truncate(whole)
        try:
            handle.write(line.encode() + b"\n")
            handle.flush()
            os.fsync(handle.fileno())
        except OSError:
            os.ftruncate(handle.fileno(), whole)
            raise


def _whole_lines(handle: object, size: int) -> int:
    """Where the last newline of an open binary file ends."""
    read, seek = handle.read, handle.seek  # type: ignore[attr-defined]
    end = size
    while end > 0:
        start = max(0, end - 4096)
        seek(start)
        found: int = read(end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def read_lines(path: Path | str) -> list[str]:
    """The whole lines of a file that ``append_line`` wrote; a torn last line is left out, a missing file has none."""
    path = Path(path)
    if not path.exists():
        return []
    content = path.read_bytes()
    return content[: content.rfind(b"\n") + 1].decode().splitlines()


def file_digest(path: Path | str) -> str:
    """blake2b-128 of a file's content, in hex."""
    h = hashlib.blake2b(digest_size=16)
    with open(path, "rb") as handle:
        while chunk := handle.read(_CHUNK):
            h.update(chunk)
    return h.hexdigest()


def tree_digests(folder: Path | str, *, leave_out: Iterable[str] = ()) -> dict[str, str]:
    """Path relative to ``folder`` (with ``/``) → ``file_digest``, sorted, for every file below it but those named in
    ``leave_out``.
    """
    folder, out = Path(folder), set(leave_out)
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    names = {p: p.relative_to(folder).as_posix() for p in files}
    return {name: file_digest(p) for p, name in sorted(names.items(), key=lambda item: item[1]) if name not in out}


def check_digests(folder: Path | str, digests: dict[str, str]) -> str | None:
    """Compare files with what ``tree_digests`` said: None when all agree, else one sentence about the first that does
    not.
    """
    folder = Path(folder)
    for name, wanted in digests.items():
        path = folder / name
        if not path.is_file():
            return f"{path}: is missing"
        if file_digest(path) != wanted:
            return f"{path}: its content is not what was written (another checksum): it is damaged or was changed"
    return None


def sealed(data: Mapping[str, Any]) -> str:
    """A JSON object as text with its own digest in it, so that ``unsealed`` notices when it was changed."""
    return json.dumps({**data, _SEAL: _seal_of(data)}, indent=1, ensure_ascii=False) + "\n"


def unsealed(data: Mapping[str, Any]) -> dict[str, Any]:
    """The object that ``sealed`` wrote, parsed, without its digest.

    Raises:
        ValueError: it is not what was written.
    """
    rest = {key: value for key, value in data.items() if key != _SEAL}
    if data.get(_SEAL) != _seal_of(rest):
        raise ValueError("another checksum")
    return rest


def _seal_of(data: Mapping[str, Any]) -> str:
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
