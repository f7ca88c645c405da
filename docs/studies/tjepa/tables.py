"""The four tables: columns, labels, and which rows are for training, choosing and measuring."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from embedkit.files import atomic_file

PARTS = ("train", "valid", "test")


@dataclass(frozen=True, eq=False)
class Table:
    """One table.

    Attributes:
        name: of the data set.
        frame: features, the column ``part``, and the label, which no run file names.
        label: column of the label.
        numbers: columns that are amounts.
        categories: columns that are one of a set.
        regression: whether the label is a number.
    """

    name: str
    frame: pl.DataFrame
    label: str
    numbers: tuple[str, ...]
    categories: tuple[str, ...]
    regression: bool = False

    @property
    def features(self) -> tuple[str, ...]:
        """Numbers, then categories."""
        return self.numbers + self.categories

    def part(self, name: str) -> tuple[pl.DataFrame, npt.NDArray[np.float64]]:
        """The features and labels of one part; class labels as numbers from 0."""
        rows = self.frame.filter(pl.col("part") == name)
        label = rows[self.label]
        if not self.regression:
            label = label.replace_strict(self.classes, list(range(len(self.classes))), return_dtype=pl.Int64)
        return rows.select(self.features), label.to_numpy().astype(np.float64)

    @property
    def classes(self) -> list[Any]:
        """The label's values; the number of each is its place."""
        return self.frame[self.label].unique().sort().to_list()

    def write(self, folder: Path, *, labelled: bool = False) -> Path:
        """The features and parts as a Parquet file: what a run file reads. It holds the label only where one is tuned."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.name}{'-labelled' if labelled else ''}.parquet"
        with atomic_file(path) as beside:
            self.frame.select([*self.features, "part", *([self.label] if labelled else [])]).write_parquet(beside)
        return path


def deal(rows: int, shares: tuple[float, ...], names: tuple[str, ...], seed: int = 0) -> npt.NDArray[np.str_]:
    """A part for each row, at random in the given shares; the last part gets the rest."""
    drawn = np.random.default_rng(seed).permutation(rows) / rows
    return np.asarray(names)[np.searchsorted(np.cumsum(shares), drawn, side="right")]


def _parts(frame: pl.DataFrame, shares: tuple[float, ...] = (0.8,), names: tuple[str, ...] = ("train", "valid")) -> pl.DataFrame:
    """The published train rows are dealt into parts, a fifth of them for validation; the published test rows stay the test part."""
    train = frame["split"].to_numpy() == "train"
    part = np.where(train, "train", "test").astype("U6")
    part[train] = deal(int(train.sum()), shares, names)
    return frame.drop("split").with_columns(pl.Series("part", part))


def adult(folder: Path) -> Table:
    """Census income, published split."""
    frame = _parts(pl.read_parquet(folder / "adult" / "adult.parquet"))
    numbers = tuple(name for name, kind in frame.schema.items() if kind == pl.Int32)
    categories = tuple(name for name, kind in frame.schema.items() if kind == pl.String and name not in ("income", "part"))
    return Table("adult", frame, "income", numbers, categories)


def california_housing(folder: Path) -> Table:
    """House values, split at random 64 / 16 / 20. The label is standardised by its train rows, so an RMSE of 1 is the mean's."""
    frame = pl.read_parquet(folder / "california_housing" / "housing.parquet")
    frame = frame.with_columns(pl.Series("part", deal(len(frame), (0.64, 0.16), PARTS)))
    value, train = pl.col("median_house_value"), pl.col("part") == "train"
    frame = frame.with_columns((value - value.filter(train).mean()) / value.filter(train).std())
    categories = ("ocean_proximity",)
    numbers = tuple(name for name in frame.columns if name not in ("median_house_value", "part", *categories))
    return Table("california_housing", frame, "median_house_value", numbers, categories, regression=True)


def higgs_sample(folder: Path) -> Table:
    """Signal or background; the published 500 test events are too few, so 7,500 events are split at random 64 / 16 / 20."""
    frame = pl.read_parquet(folder / "higgs_sample" / "events.parquet").drop("split")
    frame = frame.with_columns(pl.Series("part", deal(len(frame), (0.64, 0.16), PARTS)))
    return Table("higgs_sample", frame, "label", tuple(name for name in frame.columns if name not in ("label", "part")), ())


def mnist(folder: Path) -> Table:
    """Digits as rows of up to 196 numbers, the means of 2 x 2 pixels but those that are one value in all train rows.

    Of the published train rows 12,000 are for training and 3,000 for validation, so that a probe of thousands of numbers takes minutes.
    """
    images = pl.read_parquet(folder / "mnist" / "images.parquet")
    pixels = (
        np.frombuffer(b"".join(images["pixels"].to_list()), dtype=np.uint8).reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4), dtype=np.float32)
    )
    frame = _parts(images.select("split", "label"), (0.2, 0.05), ("train", "valid", "unused"))
    flat = pixels.reshape(len(pixels), -1)
    kept = np.flatnonzero(flat[(frame["part"] == "train").to_numpy()].std(axis=0) > 0)
    columns = {f"pixel_{i // 14}_{i % 14}": flat[:, i] for i in kept}
    frame = frame.hstack(pl.DataFrame(columns)).filter(pl.col("part") != "unused")
    return Table("mnist", frame, "label", tuple(columns), ())


TABLES: dict[str, Callable[[Path], Table]] = {one.__name__: one for one in (adult, california_housing, higgs_sample, mnist)}
