"""A small sample of Criteo's display advertising data: clicks to predict from counts and hashed categories."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from embedkit.errors import DataError
from embedkit_datasets.plain import HandedDataset

if TYPE_CHECKING:
    import polars as pl

INTEGERS = tuple(f"i{n}" for n in range(1, 14))
CATEGORIES = tuple(f"c{n}" for n in range(1, 27))


class CriteoSample(HandedDataset):
    """8,000 impressions of Criteo's display ads, 13 integer and 26 categorical columns."""

    name = "criteo_sample"
    title = "Criteo display ads: 8,000 impressions, clicked or not"
    description = (
        "8,000 impressions of display ads from the Kaggle competition's train file, 21.6% of them clicked, dealt by the source into 7,200 "
        "train, 409 dev and 391 test rows. Small: with 391 test rows the AUC is known to a few hundredths only, which is enough to try a "
        "model and too little to compare two. The 13 integers are counts of unknown meaning, heavy-tailed, some with a few negative "
        "values and many missing ones; the 26 categories are hashed to 32 bits, most of them rare, some missing in most rows."
    )
    licence = "not stated by the source; Criteo's Kaggle data: non-commercial research terms"
    citation = "Criteo Labs and Kaggle. 2014. Display Advertising Challenge. https://www.kaggle.com/c/criteo-display-ad-challenge"
    source = "https://github.com/Lapis-Hong/Wide-ResDNN (folder data/criteo)"
    reason = "its terms are the competition's, which each user accepts for themselves"
    originals = {
        "train.csv": "sha256:2b0614035f6c931dc4ac2c1a1a26fa954f2b9231703f3a77bcdd53d9d9f29872",
        "dev.csv": "sha256:7ac8a164e43a9903be3d43e640bcd464cfa0d96d7a652ec8ef8a33fe97cac6b9",
        "test.csv": "sha256:3a7a78b694945482aede520e68300b0e2748603363072822cfbbb9f72d0dfd9a",
    }
    prepared_checksums = {"impressions.parquet": "sha256:b952a22f24e58a09008d45e7716733007b986c9d17a8638346b5021629a254a2"}
    tables = {"impressions": "an ad that was shown: split (train, dev, test), label (1 clicked), integers i1 to i13, categories c1 to c26"}

    def parse(self, files: Mapping[str, bytes]) -> dict[str, pl.DataFrame]:
        """Lines of 40 values parted by tabs, without a header; an empty value is missing."""
        import polars as pl

        rows = [(file.removesuffix(".csv"), *row) for file, data in files.items() for row in _lines(data, file)]
        types: dict[str, Any] = {"split": pl.String, "label": pl.Int8}
        types |= dict.fromkeys(INTEGERS, pl.Int32) | dict.fromkeys(CATEGORIES, pl.String)
        return {"impressions": pl.DataFrame(rows, schema=types, orient="row")}


def _lines(data: bytes, file: str) -> list[tuple[Any, ...]]:
    rows = []
    for number, line in enumerate(data.decode("ascii").splitlines(), start=1):
        label, *values = line.split("\t")
        integers, categories = values[: len(INTEGERS)], values[len(INTEGERS) :]
        try:
            if label not in ("0", "1") or len(categories) != len(CATEGORIES):
                raise ValueError(f"{len(values) + 1} values")
            rows.append((int(label), *(int(v) if v else None for v in integers), *(v or None for v in categories)))
        except ValueError as error:
            raise DataError(
                f"{file}, line {number}: wanted a label 0 or 1, 13 whole numbers and 26 categories, parted by tabs ({error})"
            ) from None
    return rows
