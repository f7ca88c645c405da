"""Write-then-rename, appended lines and digests."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from embedkit import files
from embedkit.errors import DataError, UsageError
from embedkit.files import sealed, unmade_on_error, unsealed
from embedkit.testing.disk import tiny_disk


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    files.atomic_write(target, "old")

    def fail() -> None:
        with files.atomic_file(target) as beside:
            beside.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_failed_folder_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with files.atomic_folder(tmp_path / "b") as beside:
            (beside / "x").write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert os.listdir(tmp_path) == []


def test_a_folder_is_replaced_only_when_asked(tmp_path: Path) -> None:
    target = tmp_path / "b"
    for text in ("one", "two"):
        with files.atomic_folder(target, replace=True) as beside:
            (beside / "x").write_text(text)
    assert (target / "x").read_text() == "two"
    assert os.listdir(tmp_path) == ["b"]
    with pytest.raises(UsageError, match="already exists"), files.atomic_folder(target):
        pass


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), RuntimeError("x: No space left on device (os error 28)")])
def test_a_full_disk_is_one_sentence(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(DataError, match=r"a\.bin: no space left on the disk"), files.atomic_file(tmp_path / "a.bin"):
        raise error
    assert os.listdir(tmp_path) == []


def test_a_file_where_a_folder_is_wanted(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    with pytest.raises(UsageError, match="a file stands where a folder is wanted"):
        files.atomic_write(tmp_path / "f" / "g", "y")


def test_a_torn_last_line_is_dropped_and_cut(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    files.append_line(path, "one")
    with open(path, "ab") as handle:
        handle.write(b"torn " * 2000)
    assert files.read_lines(path) == ["one"]
    files.append_line(path, "two")
    assert files.read_lines(path) == ["one", "two"]
    assert files.read_lines(tmp_path / "none") == []


def test_digests_notice_a_flipped_byte_and_a_missing_file(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a").write_bytes(b"abc")
    (tmp_path / "sub" / "b").write_bytes(b"x" * 3_000_000)
    digests = files.tree_digests(tmp_path, leave_out=["a"])
    assert list(digests) == ["sub/b"]
    assert files.check_digests(tmp_path, digests) is None
    with open(tmp_path / "sub" / "b", "r+b") as handle:
        handle.seek(2_999_999)
        handle.write(b"y")
    assert "sub/b" in str(files.check_digests(tmp_path, digests))
    (tmp_path / "sub" / "b").unlink()
    assert "is missing" in str(files.check_digests(tmp_path, digests))


def test_leftovers_of_a_killed_writer_are_removed(tmp_path: Path) -> None:
    target = tmp_path / "p"
    target.write_text("kept")
    (tmp_path / ".p.tmp-0badc0de").mkdir()
    (tmp_path / ".p.tmp-0badc0de" / "x").write_text("half")
    (tmp_path / ".pp.tmp-1").write_text("another's")
    files.remove_leftovers(target)
    assert sorted(os.listdir(tmp_path)) == [".pp.tmp-1", "p"]


def test_a_really_full_disk(tmp_path: Path) -> None:
    with tiny_disk(tmp_path / "disk", "256k") as disk:
        with pytest.raises(DataError, match="no space left"):
            files.atomic_write(disk / "big", b"x" * 1_000_000)
        assert os.listdir(disk) == []
        files.append_line(disk / "lines", "first")
        with pytest.raises(DataError, match="no space left"):
            files.append_line(disk / "lines", "y" * 1_000_000)
        assert files.read_lines(disk / "lines") == ["first"]


def test_a_sealed_object_notices_any_change():
    text = sealed({"name": "a", "numbers": [1, 2.5, None], "inner": {"ü": True}})
    assert unsealed(json.loads(text)) == {"name": "a", "numbers": [1, 2.5, None], "inner": {"ü": True}}
    for changed in (text.replace("2.5", "2.6"), text.replace('"a"', '"b"'), text.replace('"digest"', '"digits"')):
        with pytest.raises(ValueError, match="another checksum"):
            unsealed(json.loads(changed))


def _fail(folder, error, keep=False):
    def work():
        with unmade_on_error(folder, keep=lambda: keep):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "x").write_text("begun")
            raise error

    with pytest.raises(type(error)):
        work()


def test_a_folder_that_an_error_ends_is_unmade(tmp_path):
    _fail(tmp_path / "a" / "b" / "c", DataError("bad"))
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "empty").mkdir()
    _fail(tmp_path / "empty", DataError("bad"))
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]
    assert list((tmp_path / "empty").iterdir()) == []


def test_a_folder_that_holds_something_is_left_as_it_is(tmp_path):
    _fail(tmp_path / "kept", DataError("bad"), keep=True)
    _fail(tmp_path / "interrupted", KeyboardInterrupt())
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "mine").write_text("mine")
    _fail(tmp_path / "used", DataError("bad"))
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == [
        "interrupted", "interrupted/x", "kept", "kept/x", "used", "used/mine", "used/x",
    ]  # fmt: skip
