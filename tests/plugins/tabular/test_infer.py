"""Which field type each column of real tables is taken for."""

from __future__ import annotations

import pyarrow.parquet as pq
import pytest

from embedkit.config.facts import SAMPLE, summarise
from embedkit.config.fields import ColumnSummary
from embedkit_sequence.fields import SequenceOptions
from embedkit_tabular.fields import CategoriesOptions, CategoryOptions, NumberOptions, TimestampOptions
from embedkit_text.fields import TextOptions

TYPES = {
    "number": NumberOptions,
    "category": CategoryOptions,
    "categories": CategoriesOptions,
    "timestamp": TimestampOptions,
    "text": TextOptions,
    "sequence": SequenceOptions,
}


def best(column: ColumnSummary) -> str:
    scores = {name: options.infer(column) for name, options in TYPES.items()}
    return max(scores, key=lambda name: scores[name])


@pytest.mark.parametrize(
    ("name", "dtype", "unique", "sample", "expected"),
    [
        ("user_id", "int", 900, [1, 2], "category"),
        ("userId", "int", 900, [1, 2], "category"),
        ("user", "int", 900, [1, 2], "category"),
        ("customer_id", "float", 900, [17850.0, float("nan")], "category"),
        ("price", "float", 900, [2.5, 3.0], "number"),
        ("price", "float", 900, [2.0, 3.0], "number"),
        ("price", "decimal", 900, [], "number"),
        ("quantity", "int", 300, [6, 1], "number"),
        ("paid", "int", 900, [6, 1], "number"),  # ends in "id" without being one
        ("stars", "int", 5, [5, 1], "category"),
        ("member", "bool", 2, [True], "category"),
        ("added", "date", 300, [], "timestamp"),
        ("added", "datetime", 300, [], "timestamp"),
        ("genres", "list[string]", 300, [], "categories"),
        ("watch_history", "list[int]", 300, [], "sequence"),
        ("colour", "string", 8, ["dark red", "blue"], "category"),
        ("title", "string", 990, ["Toy Story", "Heat"], "text"),
        ("summary", "string", 700, ["a toy comes alive at night"], "text"),
        ("function", "string", 990, ["strptime", "parseDate"], "text"),
        ("code", "string", 990, ["abcdef"], "category"),
        ("zip", "string", 990, ["48067"], "category"),
        ("hash", "string", 990, ["68fd1e64"], "category"),
    ],
)
def test_columns(name, dtype, unique, sample, expected):
    assert best(ColumnSummary(name, dtype, 1000, 0, unique, sample)) == expected


def test_unknown_types_fit_nothing():
    column = ColumnSummary("blob", "struct<a: int64>", 10, 0, 5, [])
    assert all(options.infer(column) == 0 for options in TYPES.values())


EXPECTED = {
    "adult/adult.parquet": {
        "number": "age fnlwgt capital_gain capital_loss hours_per_week",
        "category": "workclass education education_num marital_status occupation relationship race sex native_country income",
    },
    "movielens_1m/movies.parquet": {"category": "movie_id", "text": "title", "number": "year", "categories": "genres"},
    "movielens_1m/users.parquet": {"category": "user_id gender age_code age_group occupation_code occupation zip_code"},
    "online_retail/transactions.parquet": {
        "category": "invoice_no stock_code customer_id country",
        "text": "description",
        "number": "quantity unit_price",
        "timestamp": "invoice_date",
    },
    "california_housing/housing.parquet": {
        "number": "longitude latitude housing_median_age total_rooms total_bedrooms population households median_income median_house_value",
        "category": "ocean_proximity",
    },
}


@pytest.mark.parametrize("file", EXPECTED)
def test_real_tables(file, shared_datasets):
    head = next(pq.ParquetFile(shared_datasets / file).iter_batches(SAMPLE))
    for kind, columns in EXPECTED[file].items():
        for column in columns.split():
            assert best(summarise(column, head.column(column))) == kind, column
