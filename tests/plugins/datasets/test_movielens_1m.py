from __future__ import annotations

import hashlib
import io
import shutil
import zipfile
from pathlib import Path

import polars as pl
import pytest

from embedkit.errors import DataError
from embedkit_datasets.configs import NoOptions
from embedkit_datasets.download import Remote
from embedkit_datasets.movielens_1m import Movielens1M, interactions_of, movies_of, users_of

RATINGS = b"1::1193::5::978300760\n1::661::3::978302109\n2::1193::4::978298413\n"
USERS = b"1::F::1::10::48067\n2::M::56::16::70072\n"
MOVIES = "661::James and the Giant Peach (1996)::Animation|Children's|Musical\n1193::Mis\u00e9rables, Les (1995)::Drama\n".encode("latin-1")


def archive(ratings: bytes = RATINGS) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("ml-1m/ratings.dat", ratings)
        file.writestr("ml-1m/users.dat", USERS)
        file.writestr("ml-1m/movies.dat", MOVIES)
    return buffer.getvalue()


def dataset(url: str, data: bytes) -> Movielens1M:
    made = Movielens1M(NoOptions(), context=None)
    made.archive = Remote(url, len(data), "sha256:" + hashlib.sha256(data).hexdigest())  # type: ignore[misc]
    return made


def test_download_gives_the_three_tables(serve, tmp_path: Path) -> None:
    data = archive()
    made = dataset(serve("ml-1m.zip", data), data).prepare(tmp_path)
    frames = {name: pl.read_parquet(path) for name, (path, _) in made.tables.items()}
    assert frames["interactions"].rows() == [(1, 1193, 0), (1, 661, 1), (2, 1193, 2)]
    assert frames["users"].row(1) == (2, "M", 56, "56+", 16, "self-employed", "70072")
    assert frames["movies"].rows() == [
        (661, "James and the Giant Peach", 1996, ["Animation", "Children's", "Musical"]),
        (1193, "Mis\u00e9rables, Les", 1995, ["Drama"]),
    ]
    assert (tmp_path / "run.toml").is_file()


def test_another_archive_is_refused(serve, tmp_path: Path) -> None:
    url = serve("ml-1m.zip", archive(RATINGS + RATINGS))
    with pytest.raises(DataError, match="bytes, wanted|checksum"):
        dataset(url, archive()).prepare(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_malformed_line_is_named() -> None:
    with pytest.raises(DataError, match=r"ratings\.dat, line 2: 3 fields"):
        interactions_of(b"1::2::3::4\n1::2::3\n")
    with pytest.raises(DataError, match=r"movies\.dat, movie 7: title 'No year'"):
        movies_of(b"7::No year::Drama\n")


def test_downloaded_and_prepared_tables_have_the_same_columns(shared_datasets: Path) -> None:
    folder = shared_datasets / "movielens_1m"
    for frame, name in ((interactions_of(RATINGS), "interactions"), (users_of(USERS), "users"), (movies_of(MOVIES), "movies")):
        prepared = pl.read_parquet(folder / f"{name}.parquet")
        assert frame.schema == prepared.schema
    users = pl.read_parquet(folder / "users.parquet")
    raw = "".join(f"{u}::{g}::{a}::{o}::{z}\n" for u, g, a, _, o, _, z in users.iter_rows()).encode()
    assert users_of(raw).equals(users)  # codes mean the same


def test_prepared_copies_are_checked(shared_datasets: Path, tmp_path: Path, rows_of_run_file) -> None:
    folder = shared_datasets / "movielens_1m"
    lines: list[str] = []
    plain = Movielens1M(NoOptions(), context=None)
    made = plain.prepare(tmp_path / "out", prepared=folder, log=lines.append)
    assert {name: rows for name, (_, rows) in made.tables.items()} == {"interactions": 1_000_209, "users": 6_040, "movies": 3_883}
    assert pl.read_parquet(made.tables["movies"][0]).equals(pl.read_parquet(folder / "movies.parquet"))
    assert rows_of_run_file(made.run_file) == {"interactions": 1_000_209, "users": 6_040, "movies": 3_883}
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in folder.iterdir():
        shutil.copy(file, copy / file.name)
        (copy / file.name).chmod(0o644)
    (copy / "users.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"users\.parquet: its checksum is"):
        plain.prepare(tmp_path / "other", prepared=copy)
    (copy / "users.parquet").unlink()
    with pytest.raises(DataError, match=r"users\.parquet: no such file"):
        plain.prepare(tmp_path / "other", prepared=copy)
    assert not (tmp_path / "other").exists()


def test_a_missing_folder_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere: no such folder; --from wants the folder that holds interactions\.parquet"):
        Movielens1M(NoOptions(), context=None).prepare(tmp_path / "out", prepared=tmp_path / "nowhere")
