"""Questions of every kind, over a shop whose vectors are arbitrary but repeatable."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

from embedkit.api import build_index, embed, open_index, open_store
from embedkit.bundle import Bundle
from embedkit.errors import BundleError, SpaceMismatch, UsageError
from embedkit.registry import Registry
from embedkit.serve.encode import Embedder
from embedkit.serve.query import Searcher
from embedkit.serve.tables import neighbours_all, recommend
from embedkit.testing.shop import make_bundle


@pytest.fixture(scope="module")
def index(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("index")
    embed(bundle, folder / "e")
    build_index(folder / "e", folder / "i")
    return folder / "i"


@pytest.fixture(scope="module")
def searcher(index: Path, registry: Registry) -> Searcher:
    return Searcher.open(index, registry)


@pytest.fixture(scope="module")
def items(shop: Path) -> pl.DataFrame:
    return pl.concat([pl.read_parquet(shop / f"items-{i}.parquet") for i in range(2)])


def test_a_row_is_found_by_its_own_values(searcher: Searcher, items: pl.DataFrame) -> None:
    found = searcher.search(items[:20], k=3)
    assert found.ids[:, 0].tolist() == items["item_id"][:20].to_list()
    np.testing.assert_allclose(found.scores[:, 0], 1, atol=1e-5)
    assert found.generation == "000001"


def test_search_by_id_leaves_the_row_itself_out(searcher: Searcher, bundle: Bundle, items: pl.DataFrame) -> None:
    found = searcher.by_ids(["item-5", "item-9"], k=4)
    vectors = Embedder(bundle).encode(items)
    scores = vectors[[5, 9]] @ vectors.T
    scores[[0, 1], [5, 9]] = -2
    assert found.ids.tolist() == [[f"item-{i}" for i in row] for row in np.argsort(-scores, axis=1)[:, :4]]
    assert searcher.by_ids(["item-5"], k=1, include_self=True).ids.tolist() == [["item-5"]]
    assert searcher.by_ids(["item-5"], k=299).ids.shape == (1, 299)


def test_search_by_text_is_a_row_with_nothing_but_text(searcher: Searcher, bundle: Bundle) -> None:
    vectors = Embedder(bundle).encode([{"title": "red shirt"}], partial=True)
    by_text, by_vector = searcher.by_text("red shirt", k=5), searcher.search(vectors, k=5)
    np.testing.assert_array_equal(by_text.ids, by_vector.ids)
    assert searcher.by_text(["red shirt", "blue lamp"], k=2, field="title").ids.shape == (2, 2)


def test_search_by_history(searcher: Searcher, bundle: Bundle) -> None:
    histories = [["item-1", "item-2"], ["item-7"]]
    found = searcher.by_history(histories, k=5)
    rows = searcher.search([{"history": h} for h in histories], k=5)
    np.testing.assert_array_equal(found.ids, rows.ids)
    np.testing.assert_allclose(found.scores, rows.scores)
    everything = searcher.by_history([["item-1", "item-2"]], k=300, exclude_seen=True)
    assert not {"item-1", "item-2"} & set(everything.ids[0])
    assert everything.ids[0, -2:].tolist() == [None, None]


def test_where(searcher: Searcher, items: pl.DataFrame) -> None:
    cheap = set(items.filter((pl.col("price") < 15) & (pl.col("brand") == "brand-3"))["item_id"])
    found = searcher.by_text("lamp", k=50, where="price < 15 and brand = 'brand-3'")
    assert set(found.ids[0]) == cheap
    assert searcher.by_text("lamp", k=50, where="price < -1").ids.shape == (1, 0)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda s: s.by_ids(["item-12x"]), "id 'item-12x' is not in the index .*did you mean 'item-12"),
        (lambda s: s.by_ids(["item-1"], k=300), "k = 300 is larger than the rest of the index, which holds 299"),
        (lambda s: s.by_text("x", k=301), "k = 301 is larger than the index, which holds 300 rows"),
        (lambda s: s.by_text("  "), "text to search for is empty"),
        (lambda s: s.by_text("x", tower="user"), "tower 'user' reads no text"),
        (lambda s: s.by_text("x", field="name"), "no text field 'name'"),
        (lambda s: s.search([{"titel": "x"}]), "no column 'titel'; did you mean 'title'"),
        (lambda s: s.search(np.ones((1, 8))), "width 16"),
        (lambda s: s.by_history([["item-1"], []]), "history to search with is empty"),
        (lambda s: s.by_history([["item-1"]], tower="item"), "exactly one tower must read a history"),
        (lambda s: s.by_text("x", where="colour = 'red'"), "colour"),
        (lambda s: s.by_text("x", where="price + 1"), "true or false is wanted"),
        (lambda s: s.attributes(["item-1"], ["colour"]), "keeps no column 'colour'"),
    ],
)
def test_bad_questions_are_one_sentence(searcher: Searcher, ask: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ask(searcher)  # type: ignore[operator]


def test_attributes_come_in_the_order_asked(searcher: Searcher) -> None:
    rows = searcher.attributes(["item-9", "item-2", "item-9"], ["title", "item_id"])
    assert rows["item_id"].to_pylist() == ["item-9", "item-2", "item-9"]
    assert rows.column_names == ["title", "item_id"]


def test_another_bundle_is_refused(searcher: Searcher, index: Path, shop: Path, registry: Registry, tmp_path: Path) -> None:
    other = make_bundle(shop, registry, tmp_path / "b", seed=1)
    with pytest.raises(SpaceMismatch, match="bundle .* index"):
        Searcher.open(index, registry, bundle=other)
    with pytest.raises(SpaceMismatch):
        open_index(index, tmp_path / "b")


def test_a_moved_bundle_is_named(index: Path, bundle: Bundle, registry: Registry) -> None:
    moved = bundle.path.with_name("moved")
    bundle.path.rename(moved)
    try:
        lost = Searcher.open(index, registry)
        assert lost.by_ids(["item-1"], k=2).ids.shape == (1, 2)
        with pytest.raises(BundleError, match="name it if it was moved"):
            lost.by_text("lamp")
        assert open_index(index, moved).by_text("lamp", k=2).ids.shape == (1, 2)
    finally:
        moved.rename(bundle.path)


def test_refresh_takes_a_new_generation(bundle: Bundle, tmp_path: Path, registry: Registry) -> None:
    embed(bundle, tmp_path / "e")
    build_index(tmp_path / "e", tmp_path / "i", backend="exact", keep=[])
    searcher = Searcher.open(tmp_path / "i", registry)
    assert not searcher.refresh()
    build_index(tmp_path / "e", tmp_path / "i", backend={"use": "hnsw", "prefix": 8}, keep=["brand"])
    assert searcher.refresh()
    assert searcher.by_ids(["item-1"], k=2).generation == "000002"
    assert searcher.index.attributes.columns == ("item_id", "brand")


def test_refresh_keeps_the_options_of_the_search(bundle: Bundle, tmp_path: Path, registry: Registry) -> None:
    embed(bundle, tmp_path / "e")
    build_index(tmp_path / "e", tmp_path / "i", backend="hnsw", keep=[])
    searcher = Searcher.open(tmp_path / "i", registry, options={"ef": 33})
    assert searcher.index.backend.config.ef == 33
    build_index(tmp_path / "e", tmp_path / "i", backend={"use": "hnsw", "ef": 50}, keep=[])
    assert searcher.refresh()
    assert searcher.index.backend.config.ef == 33


def test_neighbours_of_everything(searcher: Searcher, tmp_path: Path) -> None:
    assert neighbours_all(searcher, tmp_path / "n.parquet", k=5, chunk=64) == 1500
    table = pl.read_parquet(tmp_path / "n.parquet")
    assert table.schema.names() == ["id", "rank", "neighbour", "score"]
    assert table.filter(pl.col("id") == pl.col("neighbour")).is_empty()
    some = searcher.by_ids(["item-77"], k=5)
    mine = table.filter(pl.col("id") == "item-77")
    assert mine["neighbour"].to_list() == some.ids[0].tolist()
    assert mine["rank"].to_list() == [1, 2, 3, 4, 5]
    np.testing.assert_allclose(mine["score"], some.scores[0], atol=1e-6)
    with pytest.raises(UsageError, match="k = 300"):
        neighbours_all(searcher, tmp_path / "m.parquet", k=300)
    assert [p.name for p in tmp_path.iterdir()] == ["n.parquet"]


def test_recommendations_for_every_user(searcher: Searcher, shop: Path, tmp_path: Path) -> None:
    store = open_store(searcher.bundle, searcher.registry)
    written = recommend(searcher, store, tmp_path / "r.parquet", k=5, chunk=16)
    found = pl.read_parquet(tmp_path / "r.parquet")
    assert (written.rows, written.users) == (200, 40)
    assert written.coverage == found["item"].n_unique() / 300
    assert found.schema.names() == ["user", "rank", "item", "score"]
    bought = pl.from_arrow(pq.read_table(shop / "events.parquet"))
    assert isinstance(bought, pl.DataFrame)
    seen = bought.select(user="customer", item="item_id")
    assert found.join(seen, on=["user", "item"]).is_empty()
    history = bought.filter(pl.col("customer") == "user-7").sort("day")["item_id"].to_list()
    direct = searcher.by_history([history], k=5 + 12, exclude_seen=True).ids[0][:5].tolist()
    assert found.filter(pl.col("user") == "user-7")["item"].to_list() == direct
    recommend(searcher, store, tmp_path / "s.parquet", k=300, exclude_seen=False, chunk=16)
    assert pl.read_parquet(tmp_path / "s.parquet").height == 300 * 40


def test_recommendations_say_what_they_are_like(searcher: Searcher, shop: Path, tmp_path: Path) -> None:
    store = open_store(searcher.bundle, searcher.registry)
    written = recommend(searcher, store, tmp_path / "r.parquet", k=5, chunk=7)
    found = pl.read_parquet(tmp_path / "r.parquet")
    events = pl.read_parquet(shop / "events.parquet")
    counts = events["item_id"].value_counts(name="n")
    shown = found.join(counts, left_on="item", right_on="item_id", how="left").with_columns(pl.col("n").fill_null(0))
    total = events.height + (300 - counts.height)  # an item without an event counts as one with one
    assert written.novelty == pytest.approx(-np.log2(shown["n"].clip(1).to_numpy() / total).mean())
    usual = events.select("customer", "item_id").unique().join(counts, on="item_id").group_by("customer").agg(pl.col("n").mean())
    assert written.popularity_bias == pytest.approx(shown.group_by("user").agg(pl.col("n").mean())["n"].mean() / usual["n"].mean())


def test_recommend_needs_what_it_names(searcher: Searcher, tmp_path: Path) -> None:
    store = open_store(searcher.bundle, searcher.registry)
    with pytest.raises(UsageError, match="no tower 'customers'"):
        recommend(searcher, store, tmp_path / "r.parquet", tower="customers")
    with pytest.raises(UsageError, match="'items' is no table of events"):
        recommend(searcher, store, tmp_path / "r.parquet", events="items")
