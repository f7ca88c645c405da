from __future__ import annotations

import datetime as dt
import hashlib
import io
import zipfile
from pathlib import Path

import polars as pl
import pytest

from embedkit.errors import DataError
from embedkit_datasets.configs import NoOptions
from embedkit_datasets.download import Remote
from embedkit_datasets.movielens_100k import Movielens100K, genres_of, items_of, ratings_of

BASE = b"2\t10\t4\t875640060\n1\t20\t5\t875640000\n"
TEST = b"1\t10\t3\t875640000\n2\t20\t1\t875640000\n"
GENRES = b"unknown|0\nAction|1\nDrama|2\n\n"
ITEMS = (
    "10|Misérables, Les (1995)|01-Jan-1995||http://us.imdb.com/M/title-exact?Mis|0|1|1\n"
    "20|unknown||||1|0|0\n"
    "30|Giving (1995) (V)|29-Feb-1996|||0|0|0\n"
).encode("latin-1")
USERS = b"1|24|M|technician|85711\n2|53|F|other|T8H1N\n"


def archive(**changed: bytes) -> bytes:
    members = {"u1.base": BASE, "u1.test": TEST, "u.item": ITEMS, "u.user": USERS, "u.genre": GENRES} | changed
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, data in members.items():
            file.writestr(f"ml-100k/{name}", data)
    return buffer.getvalue()


def test_download_gives_the_three_tables(serve, tmp_path: Path) -> None:
    data = archive()
    made = Movielens100K(NoOptions(), context=None)
    made.archive = Remote(serve("ml-100k.zip", data), len(data), "sha256:" + hashlib.sha256(data).hexdigest())  # type: ignore[misc]
    frames = {name: pl.read_parquet(path) for name, (path, _) in made.prepare(tmp_path).tables.items()}
    first = dt.datetime(1997, 9, 30, 17, 20)
    assert frames["ratings"].rows() == [  # by user, time, item
        (1, 10, 3, first), (1, 20, 5, first), (2, 20, 1, first), (2, 10, 4, first + dt.timedelta(minutes=1)),
    ]  # fmt: skip
    assert frames["items"].rows() == [
        (10, "Misérables, Les", dt.date(1995, 1, 1), "http://us.imdb.com/M/title-exact?Mis", ["Action", "Drama"]),
        (20, "unknown", None, None, ["unknown"]),
        (30, "Giving (1995) (V)", dt.date(1996, 2, 29), None, []),
    ]
    assert frames["users"].rows() == [(1, 24, "M", "technician", "85711"), (2, 53, "F", "other", "T8H1N")]
    assert (tmp_path / "run.toml").is_file()


def test_another_archive_is_refused(serve, tmp_path: Path) -> None:
    made = Movielens100K(NoOptions(), context=None)
    made.archive = Remote(serve("ml-100k.zip", archive()), made.archive.n_bytes, made.archive.sha256)  # type: ignore[misc]
    with pytest.raises(DataError, match="bytes, wanted 4,924,029"):
        made.prepare(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_malformed_line_is_named() -> None:
    with pytest.raises(DataError, match=r"u1\.test, line 2: 3 fields"):
        ratings_of(BASE, b"1\t10\t3\t875640000\n1\t2\t3\n")
    with pytest.raises(DataError, match=r"u1\.base, line 1: wanted four whole numbers"):
        ratings_of(b"1\tx\t3\t875640000\n", TEST)
    genres = genres_of(GENRES)
    with pytest.raises(DataError, match=r"u\.item, line 1: '1995' is not a date such as 01-Jan-1995"):
        items_of(b"1|A (1995)|1995|||0|0|1\n", genres)
    with pytest.raises(DataError, match=r"u\.item, line 1: the flags"):
        items_of(b"1|A (1995)||||0|2|1\n", genres)


def test_prepared_copies_are_as_the_card_and_the_parser_say(shared_datasets: Path, tmp_path: Path, rows_of_run_file) -> None:
    folder = shared_datasets / "movielens_100k"
    made = Movielens100K(NoOptions(), context=None).prepare(tmp_path, prepared=folder)
    rows = {"ratings": 100_000, "items": 1_682, "users": 943}
    assert {name: found for name, (_, found) in made.tables.items()} == rows
    assert rows_of_run_file(made.run_file) == rows
    ratings, items = (pl.read_parquet(folder / f"{name}.parquet") for name in ("ratings", "items"))
    assert ratings_of(BASE, TEST).schema == ratings.schema
    assert items_of(ITEMS, genres_of(GENRES)).schema == items.schema
    assert ratings.equals(ratings.sort("user_id", "rated_at", "item_id"))
    assert ratings.filter(pl.col("rating") >= 4).height == 55_375
    assert ratings.select("user_id", "rated_at").is_duplicated().sum() == 75_772
