from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from fakes import category, history, number, open_store, tags

from embedkit import api
from embedkit.errors import UsageError
from embedkit.host import Host

ITEMS = ({"id": ["a", "b", "c", "d"], "price": [1.0, 2.0, 3.0, 4.0], "tags": [["x"], [], None, ["y", "x"]]}, {"key": "id"})
EVENTS = {
    "u": ["p", "q", "p", "p", "q", "p", "r", None],
    "i": ["a", "b", "b", "c", "a", "zz", "d", "a"],
    "t": [1, 1, 2, 3, 5, 9, 4, 1],
    "w": [1, 2, 3, 4, 5, 6, 7, 8],
}
CONFIG = {"join": {"i": "items"}, "user": "u", "time": "t"}
FIELDS = [
    category("id", "items", domain="item", role="key"),
    number("price", "items"),
    tags("tags", "items"),
    number("w", "events", role="weight"),
    history(max_length=2),
]


@pytest.fixture
def store(tmp_path):
    return open_store(tmp_path, {"items": ITEMS, "events": (EVENTS, CONFIG)}, FIELDS)


def rows(*numbers: int) -> torch.Tensor:
    return torch.tensor(numbers)


def test_events_are_joined_and_sorted_by_user(store):
    events = store.events["events"]
    assert events.joins["items"].tolist() == [0, 1, 1, 2, 0, -1, 3, 0]
    assert events.user.tolist() == [0, 1, 0, 0, 1, 0, 2, -1]
    assert events.user_ids.to_pylist() == ["p", "q", "r"]
    assert events.by_user.tolist() == [0, 2, 3, 5, 1, 4, 6]
    assert events.user_offsets.tolist() == [0, 4, 6, 7]
    assert events.rank.tolist() == [0, 4, 1, 2, 5, 3, 6, -1]
    assert events.strict


def test_a_batch_of_events_holds_histories_items_and_weights(store):
    batch = store.batch({"events": rows(5, 0, 7, 4)}, ["id", "price", "tags", "history"])
    assert batch.rows["items"].tolist() == [-1, 0, 0, 0]
    assert batch.rows["events"].tolist() == [5, 0, 7, 4]
    assert batch.labels["w"].tolist() == [6.0, 1.0, 8.0, 5.0]
    codes = store.codecs.codes["item"]
    assert batch.columns["id"].values[1:].tolist() == [codes["a"]] * 3
    for name in ("id", "price", "tags"):
        assert batch.columns[name].present.tolist() == [False, True, True, True]
    assert batch.columns["tags"].lengths().tolist() == [0, 1, 1, 1]
    told = batch.columns["history"]
    assert told.offsets.tolist() == [0, 2, 2, 2, 3]
    assert told.values.tolist() == [codes["b"], codes["c"], codes["b"]]
    assert "w" not in batch.columns


def test_a_batch_of_items_does_not_reach_events(store):
    batch = store.batch({"items": rows(3, 2)}, ["price", "tags"])
    assert batch.columns["price"].values.tolist() == [4.0, 3.0]
    assert batch.columns["tags"].present.tolist() == [True, False]
    assert not batch.labels
    with pytest.raises(UsageError, match="field 'history' of table 'events' cannot be had for rows of items"):
        store.batch({"items": rows(0)}, ["history"])
    with pytest.raises(UsageError, match="no field 'prize'"):
        store.batch({"items": rows(0)}, ["prize"])


def test_keys_are_fitted_on_train_events(tmp_path):
    config = CONFIG | {"split": {"by": "position", "valid": 0, "test": 1}}
    store = open_store(tmp_path, {"items": ITEMS, "events": (EVENTS, config)}, FIELDS)
    assert store.tables["events"].split.tolist() == [0, 0, 0, 0, 2, 2, 0, 0]
    assert store.codecs.seen["id"] == ["a", "b", "b", "c", "d", "a"]
    assert store.codecs.seen["price"] == [1.0, 2.0, 3.0, 4.0]
    assert store.codecs.seen["w"] == [1, 2, 3, 4, 7, 8]
    assert store.frequencies("items").tolist() == [2, 2, 1, 1]
    assert store.train_rows("events").tolist() == [0, 1, 2, 3, 6, 7]
    assert store.train_rows("items").tolist() == [0, 1, 2, 3]


def test_without_events_keys_are_fitted_on_the_table(tmp_path):
    store = open_store(tmp_path, {"items": ITEMS}, FIELDS[:3])
    assert store.codecs.seen["id"] == ["a", "b", "c", "d"]


def test_unmatched_joins_and_events_without_user_are_logged(tmp_path):
    log: list[str] = []
    open_store(tmp_path, {"items": ITEMS, "events": (EVENTS, CONFIG)}, FIELDS, log=log)
    text = "\n".join(log)
    assert "1 of 8 rows name no row of 'items' in column 'i'" in text
    assert "1 of 8 rows have no user in column 'u'" in text


def test_joins_that_cannot_be(tmp_path):
    with pytest.raises(UsageError, match=r"tables\.events\.join: 'i' joins 'things', which is not another table"):
        open_store(tmp_path, {"events": (EVENTS, CONFIG | {"join": {"i": "things"}})})
    with pytest.raises(UsageError, match=r"joins table 'items', which has no key; set tables\.items\.key"):
        open_store(tmp_path, {"items": (ITEMS[0], {}), "events": (EVENTS, CONFIG)})
    with pytest.raises(UsageError, match="two columns join table 'items'"):
        open_store(tmp_path, {"items": ITEMS, "events": (EVENTS, CONFIG | {"join": {"i": "items", "u": "items"}})})


def brute_history(events, row: int, limit: int) -> list[int]:
    if events.user[row] < 0:
        return []
    mine = [e for e in range(events.rows) if events.user[e] == events.user[row] and events.split[e] <= limit]
    earlier = [e for e in mine if events.order[e] < events.order[row]]
    return sorted(earlier, key=lambda e: (events.order[e], e))


@pytest.mark.parametrize(
    "split",
    [
        None,
        {"by": "time", "valid": 3, "test": 4},
        {"by": "position", "valid": 1, "test": 2},
        {"by": "hash", "key": ["u", "n"], "valid": 0.2, "test": 0.2},
        {"by": "column", "column": "s", "valid": "v", "test": "x"},
    ],
)
def test_histories_are_strictly_earlier_events_of_allowed_splits(tmp_path, split):
    rng = np.random.default_rng(3)
    n = 300
    columns = {
        "u": pa.array([None if x == 9 else x for x in rng.integers(0, 10, n).tolist()], pa.int32()),
        "i": rng.integers(0, 5, n),
        "t": rng.integers(0, 20, n),
        "n": np.arange(n),
        "s": rng.choice(["t", "v", "x"], n),
    }
    items = ({"id": np.arange(5)}, {"key": "id"})
    config = {"user": "u", "time": "t", "join": {"i": "items"}, "split": split}
    events = open_store(tmp_path, {"items": items, "events": (columns, config)}).events["events"]
    everything = np.arange(n)
    assert sorted(events.by_user[: events.user_offsets[-1]].tolist()) == np.flatnonzero(events.user >= 0).tolist()
    for limit in (0, 1, 2):
        start, stop = events.history(everything, limit)
        for row in range(n):
            # A held-out event asks for histories of its own split and earlier ones only up to its place in the order.
            assert events.by_user[start[row] : stop[row]].tolist() == brute_history(events, row, limit), (row, limit)
        users = np.arange(events.users)
        start, stop = events.up_to(users, limit)
        for user in users:
            mine = [e for e in range(n) if events.user[e] == user and events.split[e] <= limit]
            assert events.by_user[start[user] : stop[user]].tolist() == sorted(mine, key=lambda e: (events.order[e], e))


def test_without_order_a_history_is_the_set_without_the_target(tmp_path):
    columns = {"u": [1, 1, 1, 1, 2, 1], "i": ["a", "b", "c", "a", "a", "d"], "s": ["", "", "", "", "", "test"]}
    config = {"user": "u", "join": {"i": "items"}, "split": {"by": "column", "column": "s", "test": "test"}}
    for length, wanted in ((None, ["b", "c"]), (2, ["b", "c"]), (1, ["c"])):
        fields = [category("id", "items", domain="item", role="key"), history(max_length=length)]
        store = open_store(tmp_path, {"items": ITEMS, "events": (columns, config)}, fields)
        names = {code: name for name, code in store.codecs.codes["item"].items()}
        batch = store.batch({"events": rows(0, 4, 3, 1)}, ["history"])
        told = batch.columns["history"]
        lists = [[names[x] for x in told.values[a:b].tolist()] for a, b in zip(told.offsets[:-1], told.offsets[1:], strict=True)]
        # The longest stretch that is read is one event more than max_length, so repeats of the own item may shorten a history.
        assert lists[0] == (wanted if length != 1 else ["c"])
        assert lists[1] == []
        assert set(lists[3]) == ({"a", "c"} if length is None else {"a", "c"} if length == 2 else {"a"})


def test_streamed_tables_give_the_same_values(tmp_path):
    n = 150_000
    rng = np.random.default_rng(0)
    columns = {"c": rng.integers(0, 50, n), "x": rng.normal(size=n)}
    fields = [category("c", "rows"), number("x", "rows")]
    stores = [open_store(tmp_path, {"rows": (columns, {})}, fields, path=path, row_group_size=40_000) for path in ("memory", "stream")]
    assert [s.streamed("rows") for s in stores] == [False, True]
    at = torch.from_numpy(rng.integers(0, n, 1000))
    one, two = (s.batch({"rows": at}, ["c", "x"]) for s in stores)
    for name in ("c", "x"):
        assert torch.equal(one.columns[name].values, two.columns[name].values)
    assert len(stores[1].batch({"rows": at[:0]}, ["c"]).columns["c"]) == 0


def test_what_item_fields_say_of_each_other_does_not_depend_on_sales(bundle):
    store = api.open_store(bundle, Host.load().registry)
    items = store.mutual_information("items", ["brand", "price"])
    assert items[0, 1] > 0
    assert (store.mutual_information("events", ["brand", "price"]) == items).all()
