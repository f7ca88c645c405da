"""The two data sets of the study as one table each: rows with a label, categorical fields, and a part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from embedkit.data.hashing import splitmix64

VALID, TEST = 0.1, 0.2
"""Shares of the rows of movielens_100k."""
USER = {"frappe": "user", "movielens_100k": "user_id"}
"""Whose row it is: rows of one user are resampled together."""


def prepare(name: str, source: Path, out: Path) -> dict[str, Any]:
    """Write ``<name>.parquet`` into ``out``; returns the ``tables`` and ``fields`` of a run file."""
    frame, types = {"frappe": _frappe, "movielens_100k": _movielens}[name](source / name)
    out.mkdir(parents=True, exist_ok=True)
    frame.write_parquet(out / f"{name}.parquet")
    split = {"by": "column", "column": "part", "valid": "valid", "test": "test"}
    fields = {field: {"table": "rows", "type": kind} for field, kind in types.items()}
    fields["label"] = {"table": "rows", "type": "number", "role": "label"}
    return {"tables": {"rows": {"uri": str((out / f"{name}.parquet").resolve()), "split": split}}, "fields": fields}


def _frappe(folder: Path) -> tuple[pl.DataFrame, dict[str, str]]:
    """The part called validation is trained on, every eighth row of it (by hash) held out for validation; test is test."""
    frame = _placed(pl.read_parquet(folder / "interactions.parquet"))
    held = pl.col("place") < 1 / 8
    part = pl.when(pl.col("split") == "test").then(pl.lit("test")).when(held).then(pl.lit("valid")).otherwise(pl.lit("train"))
    features = [column for column in frame.columns if column not in ("place", "split", "label")]
    return frame.select(*features, "label", part.alias("part")), dict.fromkeys(features, "category")


def _movielens(folder: Path) -> tuple[pl.DataFrame, dict[str, str]]:
    """Ratings of 1 and 2 against 4 and 5; those of 3 are left out, as in the preprocessing that the paper's figures rest on."""
    ratings = pl.read_parquet(folder / "ratings.parquet").filter(pl.col("rating") != 3)
    users = pl.read_parquet(folder / "users.parquet")
    items = pl.read_parquet(folder / "items.parquet").select("item_id", "genres")
    place = pl.col("place")
    part = pl.when(place < TEST).then(pl.lit("test")).when(place < TEST + VALID).then(pl.lit("valid")).otherwise(pl.lit("train"))
    frame = _placed(ratings).join(users, on="user_id", maintain_order="left").join(items, on="item_id", maintain_order="left")
    frame = frame.with_columns(label=(pl.col("rating") > 3).cast(pl.Int8), part=part)
    types = dict.fromkeys(["user_id", "item_id", "age", "gender", "occupation", "zip_code"], "category") | {"genres": "categories"}
    return frame.select(*types, "label", "part"), types


def _placed(frame: pl.DataFrame) -> pl.DataFrame:
    """The rows with a stable random number of their own between 0 and 1, ``place``."""
    return frame.with_columns(place=pl.Series(splitmix64(np.arange(len(frame))) / 2.0**64))
