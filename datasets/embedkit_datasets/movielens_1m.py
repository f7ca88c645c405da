"""MovieLens 1M as implicit feedback."""

from __future__ import annotations

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
    "https://files.grouplens.org/datasets/movielens/ml-1m.zip",
    n_bytes=5_917_549,
    sha256="sha256:a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20",
)

CHECKSUMS = {
    "ml-1m.zip": ARCHIVE.sha256 or "",
    "interactions.parquet": "sha256:ea42d51a68ad56a87a8b203665b1bd114fcfcadb61d8fa8b3689bd4fed494181",
    "movies.parquet": "sha256:44d0c4c91847e781f1c205fea159a2bff08f5ad3a65cf4e60833b294b52e767e",
    "users.parquet": "sha256:438ce213ace50be90db27cd20020f31b19b10c5fd1bd9238015880e2eb9606c6",
}

TABLES = {
    "interactions": "a film that a user rated: user_id, movie_id, source_order (row of the original file, which is not chronological)",
    "users": "a user: gender, age group, occupation, zip code",
    "movies": "a film: title, year, genres",
}

AGE_GROUPS = {1: "Under 18", 18: "18-24", 25: "25-34", 35: "35-44", 45: "45-49", 50: "50-55", 56: "56+"}
OCCUPATIONS = (
    "other", "academic/educator", "artist", "clerical/admin", "college/grad student", "customer service", "doctor/health care",
    "executive/managerial", "farmer", "homemaker", "K-12 student", "lawyer", "programmer", "retired", "sales/marketing", "scientist",
    "self-employed", "technician/engineer", "tradesman/craftsman", "unemployed", "writer",
)  # fmt: skip


class Movielens1M(Dataset):
    """1,000,209 ratings of 3,883 films by 6,040 users, read as implicit feedback."""

    archive = ARCHIVE
    checksums = CHECKSUMS

    @property
    def card(self) -> Card:
        """The data set's card."""
        return Card(
            name="movielens_1m",
            title="MovieLens 1M: who rated which film",
            description=(
                "1,000,209 ratings by 6,040 users who joined MovieLens in 2000, each with at least 20 ratings; 3,706 of the 3,883 listed "
                "films have one. Only that a film was rated is kept, neither how nor when: the prepared copy (--from) has no rating "
                "values and no timestamps, and the tables are the same whichever way they came. So events have no order: split them by "
                "a hash. Demographics are what users said of themselves. Text is UTF-8."
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
        """Write ``interactions``, ``users``, ``movies`` and the starter run file into ``out``, from the archive or a prepared copy.

        Raises:
            DataError: a file is missing, cannot be fetched or parsed, or is not the recorded one.
        """
        frames = self._download(log) if prepared is None else read_prepared(prepared, self.checksums, TABLES, log)
        make_folder(out)
        return Prepared(write_tables(frames, out, log), write_run_file("movielens_1m", out, log))

    def _download(self, log: Log) -> dict[str, pl.DataFrame]:
        with tempfile.TemporaryDirectory(prefix="embedkit-") as folder:
            path = Path(folder) / "ml-1m.zip"
            download(self.archive, path, log)
            with opened_zip(path, "ml-1m/ratings.dat", "ml-1m/users.dat", "ml-1m/movies.dat") as archive:
                return {
                    "interactions": interactions_of(archive.read("ml-1m/ratings.dat")),
                    "users": users_of(archive.read("ml-1m/users.dat")),
                    "movies": movies_of(archive.read("ml-1m/movies.dat")),
                }


def _records(data: bytes, file: str, width: int) -> Iterator[list[str]]:
    for number, line in enumerate(data.decode("latin-1").splitlines(), start=1):
        parts = line.split("::")
        if len(parts) != width:
            raise DataError(f"{file}, line {number}: {len(parts)} fields separated by '::', wanted {width}")
        yield parts


def interactions_of(data: bytes) -> pl.DataFrame:
    """``ratings.dat`` (user::movie::rating::timestamp) without rating and time; ``source_order`` counts its lines from 0."""
    import polars as pl

    rows = [(int(user), int(movie), i) for i, (user, movie, _, _) in enumerate(_records(data, "ratings.dat", 4))]
    schema = {"user_id": pl.Int32, "movie_id": pl.Int32, "source_order": pl.Int32}
    return pl.DataFrame(rows, schema=schema, orient="row")


def users_of(data: bytes) -> pl.DataFrame:
    """``users.dat`` (user::gender::age::occupation::zip), codes and their names."""
    import polars as pl

    schema: dict[str, Any] = {
        "user_id": pl.Int32, "gender": pl.String, "age_code": pl.Int16, "age_group": pl.String,
        "occupation_code": pl.Int16, "occupation": pl.String, "zip_code": pl.String,
    }  # fmt: skip
    rows = [
        (int(user), gender, int(age), AGE_GROUPS[int(age)], int(job), OCCUPATIONS[int(job)], zip_code)
        for user, gender, age, job, zip_code in _records(data, "users.dat", 5)
    ]
    return pl.DataFrame(rows, schema=schema, orient="row")


def movies_of(data: bytes) -> pl.DataFrame:
    """``movies.dat`` (movie::title (year)::genre|genre), the year apart from the title."""
    import polars as pl

    schema: dict[str, Any] = {"movie_id": pl.Int32, "title": pl.String, "year": pl.Int16, "genres": pl.List(pl.String)}
    rows = []
    for movie, titled, genres in _records(data, "movies.dat", 3):
        title, _, year = titled.rpartition(" (")
        if not (title and year.endswith(")") and year[:-1].isdigit()):
            raise DataError(f"movies.dat, movie {movie}: title '{titled}' does not end in a year such as '(1995)'")
        rows.append((int(movie), title.strip(), int(year[:-1]), genres.split("|")))
    return pl.DataFrame(rows, schema=schema, orient="row")
