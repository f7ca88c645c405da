from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path

import pytest

from embedkit.errors import DataError
from embedkit_datasets.download import Remote, download, opened_zip

DATA = b"what was published" * 1000
DIGEST = "sha256:" + hashlib.sha256(DATA).hexdigest()


def test_a_good_file_arrives(serve, tmp_path: Path) -> None:
    lines: list[str] = []
    download(Remote(serve("a.zip", DATA), len(DATA), DIGEST), tmp_path / "a.zip", lines.append)
    assert (tmp_path / "a.zip").read_bytes() == DATA
    assert lines[-1] == "downloaded 18,000 bytes"


def test_size_and_digest_may_be_left_open(serve, tmp_path: Path) -> None:
    download(Remote(serve("a.zip", DATA)), tmp_path / "a.zip", print)
    assert (tmp_path / "a.zip").read_bytes() == DATA


@pytest.mark.parametrize(
    ("n_bytes", "digest", "announced", "message"),
    [
        (len(DATA), "sha256:00", None, "its checksum is sha256:.*, wanted sha256:00"),
        (len(DATA) + 1, DIGEST, None, "got 18,000 bytes, wanted 18,001"),
        (None, None, len(DATA) + 5, "stopped after 18,000 of 18,005 bytes"),
    ],
)
def test_a_wrong_file_is_refused_and_nothing_is_left(serve, tmp_path: Path, n_bytes, digest, announced, message) -> None:
    url = serve("a.zip", DATA, announced)
    with pytest.raises(DataError, match=message) as caught:
        download(Remote(url, n_bytes, digest), tmp_path / "a.zip", lambda _: None, timeout=5)
    assert url in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_an_address_that_does_not_answer_is_one_sentence(serve, tmp_path: Path) -> None:
    missing = serve("a.zip", DATA).replace("a.zip", "b.zip")
    with pytest.raises(DataError, match=r"b\.zip: cannot be downloaded \(.*use --from"):
        download(Remote(missing), tmp_path / "b.zip", lambda _: None)
    with pytest.raises(DataError, match="cannot be downloaded"):
        download(Remote("http://127.0.0.1:1/a.zip"), tmp_path / "a.zip", lambda _: None, timeout=5)
    assert list(tmp_path.iterdir()) == []


def test_archives_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("inside.txt", "text")
    path.write_bytes(buffer.getvalue())
    with opened_zip(path, "inside.txt") as archive:
        assert archive.read("inside.txt") == b"text"
    with pytest.raises(DataError, match=r"holds no 'other\.txt', only inside\.txt"), opened_zip(path, "other.txt"):
        pass
    path.write_bytes(buffer.getvalue()[:40])
    with pytest.raises(DataError, match="damaged zip archive"), opened_zip(path, "inside.txt"):
        pass
