"""Stores opened on prepared data sets: the counts that their sources state, and what decisions rest on."""

from __future__ import annotations

import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from fakes import category, history, open_prepared

from embedkit.config.model import StreamConfig
from embedkit.data.windows import Windows
from embedkit.errors import UsageError

SALES = "invoice_no NOT LIKE 'C%' AND quantity > 0 AND unit_price > 0 AND customer_id IS NOT NULL"


def test_movielens_has_no_order_so_histories_are_sets(shared_datasets):
    tables = {
        "movies": {"uri": "movies.parquet", "key": "movie_id"},
        "events": {
            "uri": "interactions.parquet",
            "join": {"movie_id": "movies"},
            "user": "user_id",
            "split": {"by": "hash", "key": ["user_id", "movie_id"], "valid": 0.1, "test": 0.2},
        },
    }
    fields = [category("movie_id", "movies", domain="movie", role="key"), history(domain="movie", max_length=200)]
    store = open_prepared(shared_datasets / "movielens_1m", tables, fields)
    events = store.events["events"]
    assert (events.rows, events.users, store.tables["movies"].rows) == (1_000_209, 6_040, 3_883)
    assert np.allclose(np.bincount(events.split) / events.rows, [0.7, 0.1, 0.2], atol=0.002)
    queries = store.queries("events", "movies", "test")
    targets, offsets = queries.targets
    assert len(targets) == offsets[-1] == (events.split == 2).sum()
    assert len(queries.seen[0]) == (queries.stop - queries.start).sum()
    rows = store.train_rows("events")[:2000]
    told = store.history("history").of_events(rows, 0)
    train = np.bincount(events.user[events.split == 0], minlength=events.users)
    assert told.lengths().tolist() == np.minimum(train[events.user[rows]] - 1, 200).tolist()


def test_online_retail_has_almost_no_order_within_an_invoice(shared_datasets):
    tables = {
        "items": {
            "uri": "transactions.parquet",
            "where": SALES,
            "group": {"by": "stock_code", "description": "mode", "unit_price": "median"},
        },
        "sales": {
            "uri": "transactions.parquet",
            "where": SALES,
            "join": {"stock_code": "items"},
            "user": "customer_id",
            "time": "invoice_date",
            "split": {"by": "time", "valid": "28d", "test": "28d"},
        },
    }
    fields = [category("stock_code", "items", domain="item", role="key"), history(table="sales", max_length=50)]
    store = open_prepared(shared_datasets / "online_retail", tables, fields)
    events = store.events["sales"]
    assert (events.rows, store.tables["items"].rows, events.users) == (397_884, 3_665, 4_338)
    first = events.before[events.by_user] == np.arange(len(events.by_user))
    alone = first & np.append(first[1:], True)
    assert 1 - alone.mean() > 0.98
    row = int(events.by_user[np.flatnonzero(events.user[events.by_user] == 7)[-1]])
    start, stop = events.history(np.array([row]), 2)
    told = events.by_user[start[0] : stop[0]]
    assert (events.order[told] < events.order[row]).all()
    assert len(told) == ((events.user == 7) & (events.order < events.order[row])).sum()
    with pytest.raises(UsageError, match="strict order"):
        Windows(store, "sales", ["history"], where="streams.main")


def test_amazon_beauty_windows_are_the_published_sequences(shared_datasets):
    tables = {
        "items": {"uri": "item_attributes.parquet", "key": "item_id"},
        "events": {
            "uri": "interactions.parquet",
            "join": {"item_id": "items"},
            "user": "user_id",
            "position": "position",
            "split": {"by": "position", "valid": 1, "test": 1},
        },
    }
    fields = [category("item_id", "items", domain="item", role="key"), history(max_length=50)]
    store = open_prepared(shared_datasets / "amazon_beauty", tables, fields)
    events = store.events["events"]
    assert (events.rows, events.users, store.tables["items"].rows) == (198_502, 22_363, 12_101)
    assert events.strict
    assert np.bincount(events.split).tolist() == [198_502 - 2 * 22_363, 22_363, 22_363]
    assert len(store.queries("events", "items", "test")) == 22_363
    windows = Windows(store, "events", ["item_id", "history"], where="streams.main")
    users = windows.users()
    assert len(users) == 22_363
    stream = StreamConfig(table="events", rows="windows", size=512)
    for at in islice(range(0, len(users), stream.size), 3):
        batch = windows.batch(users[at : at + stream.size])
        told, targets = batch.columns["history"], batch.columns["item_id"].values
        inside = np.ones(len(targets), dtype=bool)
        inside[told.offsets[:-1].numpy()] = False
        # What is the target at one position is the input at the next.
        assert told.values.numpy()[inside].tolist() == targets.numpy()[np.append(inside[1:], False)].tolist()
