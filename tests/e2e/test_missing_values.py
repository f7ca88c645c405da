"""Missing values, empty lists and unseen categories, from the table to the vector: each means one thing everywhere.

Missing (null, or NaN in a number) is a learned vector of its field; an empty list is a list without values, which is not the same; a
category without a train row is the unknown row of its domain, whatever its name.
"""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest

from embedkit.testing.command import call

ROW = {"item_id": "i003", "title": "red gloves", "brand": "brand 3", "price": 12.0, "tags": ["tag 1"]}
SCHEMA = {"item_id": pl.String, "title": pl.String, "brand": pl.String, "price": pl.Float64, "tags": pl.List(pl.String)}


@pytest.fixture(scope="module")
def encode(way):
    import embedkit

    embedder = embedkit.load(way.bundle)

    def vectors(*changes):
        frame = pl.DataFrame([ROW | change for change in changes], schema=SCHEMA)
        return embedder.encode(frame, tower="item")

    return vectors


def same(one, other):
    return bool(np.abs(one - other).max() < 1e-5)


def test_every_hole_gives_a_vector_of_its_own_field(encode):
    holes = [{}, *({name: None} for name in ROW), {"tags": []}, dict.fromkeys(ROW)]
    vectors = encode(*holes)
    assert np.isfinite(vectors).all()
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    equal = [(i, j) for i in range(len(holes)) for j in range(i) if same(vectors[i], vectors[j])]
    assert equal == [], [(holes[i], holes[j]) for i, j in equal]


def test_unseen_categories_are_one_row(encode):
    one, two, missing, seen = encode({"brand": "never seen"}, {"brand": "nor this"}, {"brand": None}, {})
    assert same(one, two)
    assert not same(one, missing)
    assert not same(one, seen)


def test_nan_is_missing_and_zero_is_a_number(encode):
    nan, null, zero = encode({"price": float("nan")}, {"price": None}, {"price": 0.0})
    assert same(nan, null)
    assert not same(null, zero)


def test_missing_entries_of_a_list_are_left_out(encode):
    with_null, without, unseen = encode({"tags": ["tag 1", None]}, {"tags": ["tag 1"]}, {"tags": ["tag 1", "never seen"]})
    assert same(with_null, without)
    assert not same(unseen, without)


def test_a_vector_does_not_depend_on_its_neighbours(encode):
    """A hole in one row changes no other row's vector."""
    alone = encode({})[0]
    assert same(alone, encode({}, {"tags": []}, {"title": None})[0])
    assert same(alone, encode({"brand": None, "price": None, "tags": None}, {})[1])


def test_searching_reads_rows_as_embedding_does(way, encode):
    from embedkit import open_index

    for change in ({"price": None}, {"tags": []}, {"brand": "never seen"}):
        row = ROW | change
        asked = call("search", way.index, "--row", json.dumps(row), "-k", 1, "--json").json[0]["neighbours"][0]
        found = open_index(way.index).search(encode(change), k=1)
        assert asked["id"] == found.ids[0, 0]
        assert asked["score"] == pytest.approx(float(found.scores[0, 0]), abs=1e-5)


def test_a_column_of_nothing_but_holes_trains_and_embeds(shop):
    """Two thirds of the train rows without a price, all without a brand: figures stay finite."""
    frame = shop.items.with_columns(brand=pl.lit(None, pl.String), price=pl.when(pl.int_range(pl.len()) % 3 == 0).then(pl.col("price")))
    shop.write(items=frame)
    folder = shop.train("--json").json[0]["run"]
    call("embed", folder, "--out", "vectors").ok()
    vectors = np.stack(pl.read_parquet("vectors/part-00000.parquet")["vector"].to_numpy())
    assert vectors.shape == (60, 16)
    assert np.isfinite(vectors).all()
