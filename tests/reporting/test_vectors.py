"""What the report reads from a bundle and its tables: places on the map, names, and who is confident."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from embedkit.api import open_store
from embedkit.errors import DataError
from embedkit.reporting.items import Names, item_map, principal, read_rows
from embedkit.reporting.users import SHOWN, confidence
from embedkit.testing.shop import make_bundle, write_tables

SPLIT = {"by": "position", "valid": 1, "test": 1}


@pytest.fixture(scope="module")
def opened(tmp_path_factory, registry):
    folder: Path = tmp_path_factory.mktemp("reported")
    write_tables(folder, items=120, users=30)
    events = {"uri": "events.parquet", "join": {"item_id": "items"}, "user": "customer", "position": "day", "split": SPLIT}
    tables = {"items": {"uri": "items-*.parquet", "key": "item_id"}, "events": events}
    bundle = make_bundle(folder, registry, folder / "bundle", tables=tables)
    return bundle, open_store(bundle, registry), pl.concat([pl.read_parquet(p) for p in sorted(folder.glob("items-*.parquet"))])


def test_principal_components_are_those_of_the_covariance():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(300, 5)) * [9, 3, 1, 1, 1] @ np.linalg.qr(rng.normal(size=(5, 5)))[0] + 4
    places, shares = principal(vectors)
    values = np.linalg.svd(vectors - vectors.mean(0), compute_uv=False) ** 2
    np.testing.assert_allclose(shares, values[:2] / values.sum())
    np.testing.assert_allclose((places**2).sum(0), values[:2])
    np.testing.assert_allclose(places.mean(0), 0, atol=1e-9)


@pytest.mark.parametrize("vectors", [np.arange(4.0)[:, None], np.ones((3, 4))])
def test_few_numbers_and_equal_vectors_have_places_too(vectors):
    places, shares = principal(vectors)
    assert places.shape == (len(vectors), 2)
    assert np.isfinite(places).all()
    assert np.isfinite(shares).all()
    assert len(shares) == 2


def test_names_are_titles_and_ids_where_a_title_is_missing(opened):
    _, store, items = opened
    rows = np.array([100, 17, 0, 100])
    titles = items["title"].to_list()
    assert Names(store, "items").of(rows) == [titles[100], "item-17", "item-0" if titles[0] is None else titles[0], titles[100]]
    assert titles[17] is None
    assert read_rows(store.tables["items"], ["price"], np.array([59, 60, 119]))["price"] == items["price"][[59, 60, 119]].to_list()


def test_a_map_samples_and_colours_by_the_field_that_says_most(opened):
    bundle, store, items = opened
    found = item_map(bundle, store, "item", most=50, seed=0)
    assert (found.shown, found.total, found.field, len(found.points)) == (50, 120, "brand", 50)
    brand = dict(zip(items["title"], items["brand"], strict=True))
    for _, _, colour, name in found.points:
        if name in brand and colour < len(found.groups):
            assert brand[name] == found.groups[colour]
    again = item_map(bundle, store, "item", most=50, seed=0)
    assert again.points == found.points


@pytest.mark.parametrize("exclude_seen", [True, False])
def test_confidence_is_the_margin_of_the_ten(opened, exclude_seen):
    bundle, store, _ = opened
    asked = {"query": "user", "target": "item", "events": "events", "split": "test", "exclude_seen": exclude_seen, "seed": 0}
    found = confidence(bundle, store, most=25, **asked)
    assert found.asked == 25
    margins = [user.margin for user in found.most]
    assert margins == sorted(margins, reverse=True)
    assert margins[-1] >= max(user.margin for user in found.least[:5])
    user = found.most[0]
    queries = store.queries("events", "items", "test")
    q = queries.ids.index(user.id)
    fields = bundle.schema.towers["user"].fields
    items = bundle.model.encode(store.batch({"items": torch.arange(120)}, bundle.schema.towers["item"].fields), "item")
    scores = (bundle.model.encode(store.query_batch(queries, np.array([q]), fields), "user") @ items.T)[0]
    seen = queries.seen[0][queries.seen[1][q] : queries.seen[1][q + 1]]
    if exclude_seen:
        scores[torch.from_numpy(seen)] = -torch.inf
    best = scores.topk(SHOWN + 1)
    assert [one.score for one in user.recommended] == pytest.approx(best.values[:SHOWN].tolist(), abs=1e-5)
    assert user.margin == pytest.approx(float(best.values[0] - best.values[SHOWN]), abs=1e-5)
    names = Names(store, "items")
    assert [one.name for one in user.recommended] == names.of(best.indices[:SHOWN].numpy())
    target = queries.targets[0][queries.targets[1][q] : queries.targets[1][q + 1]]
    assert [one.hit for one in user.recommended] == [int(row) in target for row in best.indices[:SHOWN]]
    assert user.held_out == tuple(names.of(target))
    assert len(user.history) == 8
    assert user.earlier == int(queries.stop[q] - queries.start[q]) - 8


def test_too_few_items_have_no_margin(opened, monkeypatch):
    bundle, store, _ = opened
    monkeypatch.setattr("embedkit.reporting.users.SHOWN", 120)
    with pytest.raises(DataError, match="table 'items' has 120 rows, and a margin wants more than 120"):
        confidence(bundle, store, query="user", target="item", events="events", split="test", exclude_seen=True, most=5, seed=0)
