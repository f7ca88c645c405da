"""Rows as people have them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from embedkit.bundle import Bundle
from embedkit.errors import DataError, UsageError
from embedkit.serve.frames import encode_rows, to_arrow

ROWS = [{"title": "a", "price": 1.5}, {"title": None, "price": 2.0}]
COLUMNS = {"title": ["a", None], "price": [1.5, 2.0]}


@pytest.mark.parametrize(
    "frame",
    [ROWS, COLUMNS, pl.DataFrame(COLUMNS), pd.DataFrame(COLUMNS), pa.table(COLUMNS), pa.RecordBatch.from_pydict(COLUMNS)],
    ids=["rows", "columns", "polars", "pandas", "arrow", "batch"],
)
def test_every_kind_of_frame_is_read(frame: Any) -> None:
    assert to_arrow(frame).to_pylist() == ROWS


def test_rows_may_lack_keys_and_a_dict_of_single_values_is_a_row() -> None:
    assert to_arrow([{"a": 1}, {"b": "x"}]).to_pylist() == [{"a": 1, "b": None}, {"a": None, "b": "x"}]
    assert to_arrow({"a": 1, "b": ["x", "y"]}).to_pylist() == [{"a": 1, "b": ["x", "y"]}]
    assert to_arrow({"a": np.arange(2), "b": [[1], []]}).to_pylist() == [{"a": 0, "b": [1]}, {"a": 1, "b": []}]


@pytest.mark.parametrize(
    ("frame", "error", "message"),
    [
        (3, UsageError, "rows of type int"),
        ("text", UsageError, "rows of type str"),
        ([{"a": 1}, {"a": "x"}], DataError, "column 'a': its values do not have one type"),
        ([], DataError, "no columns"),
        ({"a": [1], "b": [1, 2]}, DataError, "cannot be read as a table"),
    ],
)
def test_what_is_no_frame_is_refused(frame: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        to_arrow(frame)


def test_absent_columns_are_unknown_rather_than_missing_and_strangers_are_refused(bundle: Bundle) -> None:
    absent = encode_rows(bundle, "item", pa.table({"price": [1.0, 2.0]}), partial=True)
    others = {"item_id": ["a", "b"], "title": ["x", "y"], "brand": ["p", "q"]}
    missing = encode_rows(bundle, "item", pa.table({"price": [1.0, 2.0]} | {name: pa.nulls(2, pa.string()) for name in others}))
    assert absent.shape == missing.shape
    assert not np.allclose(absent, missing)
    with pytest.raises(DataError, match="'brand'|'item_id'|'title'"):
        encode_rows(bundle, "item", pa.table({"price": [1.0, 2.0]}))
    with pytest.raises(UsageError, match="no column 'prise'; did you mean 'price'"):
        encode_rows(bundle, "item", pa.table({"prise": [1.0]}), partial=True)
