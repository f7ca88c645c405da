"""MovieLens 100K: ratings with times, films with genres, users with demographics."""

from __future__ import annotations

import datetime as dt
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedkit.data.dataset import Card, Dataset, Prepared
from embedkit.errors import DataError
from embedkit.files import make_folder
from embedkit_datasets.download import Remote, download, opened_zip
from embedkit_datasets.files import Log, read_prepared, write_run_file, write_tables

if TYPE_CHECKING:
    import polars as pl

ARCHIVE = Remote(
    "https://files.grouplens.org/datasets/movielens/ml-100k.zip",
    n_bytes=4_924_029,
    sha256="sha256:50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229",
)
MEMBERS = tuple(f"ml-100k/{name}" for name in ("u1.base", "u1.test", "u.item", "u.user", "u.genre"))

CHECKSUMS = {
    "ml-100k.zip": ARCHIVE.sha256 or "",
    "ratings.parquet": "sha256:703316adf2423f0311d08ea7f54becd0dab7e9b09ba11cafec88d8a496e96d35",
    "items.parquet": "sha256:146ff6475bc20529b52852debce9f68cdea685bbffe3591b05448f597eb9f58b",
    "users.parquet": "sha256:e8b8d46f7304b5be0b4a69d4f6b528e7ebfc89ab2c6b2531a40edb52bc1e60a3",
}

TABLES = {
    "ratings": "a rating: user_id, item_id, rating (1 to 5), rated_at (UTC)",
    "items": "a film: item_id, title, release_date, imdb_url, genres",
    "users": "a user: user_id, age, gender, occupation, zip_code",
}

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
"""Spelt out, since strptime's month names depend on the locale."""


class Movielens100K(Dataset):
    """100,000 ratings of 1,682 films by 943 users, with times."""

    archive = ARCHIVE
    checksums = CHECKSUMS

    @property
    def card(self) -> Card:
        """The data set's card."""
        return Card(
            name="movielens_100k",
            title="MovieLens 100K: who rated which film, how and when",
            description=(
                "100,000 ratings from 1 to 5 of 1,682 films by 943 users, September 1997 to April 1998, each user with at least 20 "
                "ratings. Users rate what a page shows them, many films within a minute, so the order of a user's ratings says less than "
                "an order of watching would: 75,772 ratings share user and second with another. The year is taken off the title; one "
                "film, 'unknown', has no date. 18 films stand under two ids each. 55,375 ratings are 4 or more: "
                'where = "rating >= 4" reads those alone, as implicit feedback. Text is UTF-8.'
            ),
            licence=(
                "GroupLens MovieLens terms, as the archive's README states them: research use; no commercial use and no redistribution "
                "without GroupLens's permission; acknowledge in publications"
            ),
            citation=(
                "F. Maxwell Harper and Joseph A. Konstan. 2015. The MovieLens Datasets: History and Context. ACM Transactions on "
                "Interactive Intelligent Systems 5(4), article 19. https://doi.org/10.1145/2827872"
            ),
            source=self.archive.url,
            checksums=self.checksums,
            tables=TABLES,
        )

    def prepare(self, out: Path, *, prepared: Path | None = None, log: Callable[[str], Any] = lambda line: None) -> Prepared:
        """Write ``ratings``, ``items``, ``users`` and the starter run file into ``out``, from the archive or a prepared copy.

        Raises:
            DataError: a file is missing, cannot be fetched or parsed, or is not the recorded one.
        """
        frames = self._download(log) if prepared is None else read_prepared(prepared, self.checksums, TABLES, log)
        make_folder(out)
        return Prepared(write_tables(frames, out, log), write_run_file("movielens_100k", out, log))

    def _download(self, log: Log) -> dict[str, pl.DataFrame]:
        with tempfile.TemporaryDirectory(prefix="embedkit-") as folder:
            path = Path(folder) / "ml-100k.zip"
            download(self.archive, path, log)
            with opened_zip(path, *MEMBERS) as archive:
                base, test, items, users, genres = (archive.read(member) for member in MEMBERS)
        return {
            "ratings": ratings_of(base, test),
            "items": items_of(items, genres_of(genres)),
            "users": users_of(users),
        }


def _records(data: bytes, file: str, separator: str, width: int) -> Iterator[tuple[int, list[str]]]:
    """Line number and parts of the lines that are not empty.

    Raises:
        DataError: a line has not ``width`` parts.
    """
    for number, line in enumerate(data.decode("latin-1").split("\n"), start=1):
        if line.strip():
            parts = line.rstrip("\r").split(separator)
            if len(parts) != width:
                raise DataError(f"{file}, line {number}: {len(parts)} fields separated by {separator!r}, wanted {width}")
            yield number, parts


def ratings_of(base: bytes, test: bytes) -> pl.DataFrame:
    """``u1.base`` and ``u1.test`` (user, item, rating, seconds since 1970; tabs) together are all ratings; sorted by user, time, item.

    Raises:
        DataError: a line has another form.
    """
    import polars as pl

    rows: list[tuple[int, ...]] = []
    for data, file in ((base, "u1.base"), (test, "u1.test")):
        for number, parts in _records(data, file, "\t", 4):
            try:
                rows.append(tuple(map(int, parts)))
            except ValueError:
                raise DataError(f"{file}, line {number}: wanted four whole numbers, found {parts}") from None
    names = {"user_id": pl.Int32, "item_id": pl.Int32, "rating": pl.Int8, "seconds": pl.Int64}
    frame = pl.DataFrame(rows, schema=names, orient="row")
    frame = frame.with_columns(rated_at=(pl.col("seconds") * 1_000_000).cast(pl.Datetime("us"))).drop("seconds")
    return frame.sort("user_id", "rated_at", "item_id")


def genres_of(data: bytes) -> list[str]:
    """``u.genre`` (genre|number): the genres in the order of the flags in ``u.item``."""
    numbered = sorted((int(number), genre) for _, (genre, number) in _records(data, "u.genre", "|", 2))
    return [genre for _, genre in numbered]


def items_of(data: bytes, genres: list[str]) -> pl.DataFrame:
    """``u.item`` (item|title (year)|date|video date|address|a flag a genre), the year apart from the title.

    Raises:
        DataError: a line has another form.
    """
    import polars as pl

    rows = []
    for number, (item, title, released, _, url, *flags) in _records(data, "u.item", "|", 5 + len(genres)):
        if not set(flags) <= {"0", "1"}:
            raise DataError(f"u.item, line {number}: the flags of the genres are {flags}, wanted 0 and 1")
        named = [genre for genre, flag in zip(genres, flags, strict=True) if flag == "1"]
        rows.append((int(item), _without_year(title), _date(released, number), url.strip() or None, named))
    schema: dict[str, Any] = {
        "item_id": pl.Int32, "title": pl.String, "release_date": pl.Date, "imdb_url": pl.String, "genres": pl.List(pl.String),
    }  # fmt: skip
    return pl.DataFrame(rows, schema=schema, orient="row")


def _without_year(title: str) -> str:
    """``Toy Story (1995)`` → ``Toy Story``; a title that does not end in a year stays."""
    name, _, year = title.strip().rpartition(" (")
    return name.strip() if name and len(year) == 5 and year[:4].isdigit() and year.endswith(")") else title.strip()


def _date(text: str, number: int) -> dt.date | None:
    """``01-Jan-1995``; nothing for an empty text."""
    if not text:
        return None
    try:
        day, month, year = text.split("-")
        return dt.date(int(year), _MONTHS.index(month) + 1, int(day))
    except ValueError:
        raise DataError(f"u.item, line {number}: '{text}' is not a date such as 01-Jan-1995") from None


def users_of(data: bytes) -> pl.DataFrame:
    """``u.user`` (user|age|gender|occupation|zip code)."""
    import polars as pl

    schema: dict[str, Any] = {
        "user_id": pl.Int32, "age": pl.Int16, "gender": pl.String, "occupation": pl.String, "zip_code": pl.String,
    }  # fmt: skip
    rows = [(int(user), int(age), gender, job, code) for _, (user, age, gender, job, code) in _records(data, "u.user", "|", 5)]
    return pl.DataFrame(rows, schema=schema, orient="row")
