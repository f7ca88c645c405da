from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from fakes import category, history, number, open_store

from embedkit.errors import UsageError

ITEMS = ({"id": ["a", "b", "c", "d"]}, {"key": "id"})
FIELDS = [category("id", "items", domain="item", role="key"), history(max_length=2), number("t", "events"), category("where", "events")]


def make(tmp_path, columns, **config):
    config = {"join": {"i": "items"}, "user": "u", "time": "t"} | config
    columns = {"where": ["x"] * len(columns["u"])} | columns
    return open_store(tmp_path, {"items": ITEMS, "events": (columns, config)}, FIELDS)


def lists(ragged) -> list[list[int]]:
    values, offsets = ragged
    return [values[a:b].tolist() for a, b in pairwise(offsets)]


def histories(store, queries) -> list[list[int]]:
    by_user = store.events["events"].by_user
    return [by_user[a:b].tolist() for a, b in zip(queries.start, queries.stop, strict=True)]


LAST_OUT = {"u": [7, 7, 7, 7, 8, 8, 9], "i": ["a", "b", "a", "zz", "b", "c", "a"], "t": [1, 2, 3, 4, 1, 1, 5]}


def test_last_out_asks_one_query_a_held_out_event_and_rolls_on(tmp_path):
    store = make(tmp_path, LAST_OUT, split={"by": "position", "valid": 1, "test": 1})
    valid = store.queries("events", "items", "valid")
    assert (valid.ids, valid.event.tolist(), lists(valid.targets)) == (["7"], [2], [[0]])
    assert histories(store, valid) == [[0, 1]]
    assert lists(valid.seen) == [[0, 1]]
    test = store.queries("events", "items", "test")
    assert (test.users.tolist(), test.event.tolist()) == ([0], [3])
    assert lists(test.targets) == [[-1]]
    assert histories(store, test) == [[0, 1, 2]]
    assert lists(test.seen) == [[0, 1]]
    batch = store.query_batch(test, np.array([0]), ["history", "t"])
    codes = store.codecs.codes["item"]
    assert batch.columns["history"].values.tolist() == [codes["b"], codes["a"]]
    assert batch.columns["t"].values.tolist() == [4.0]


def test_events_at_the_same_moment_are_in_nobody_elses_history(tmp_path):
    columns = {"u": [1] * 4, "i": ["a", "b", "c", "d"], "t": [1, 2, 2, 2]}
    store = make(tmp_path, columns, split={"by": "position", "valid": 1, "test": 1})
    for split in ("valid", "test"):
        assert histories(store, store.queries("events", "items", split)) == [[0]]


def test_a_time_split_freezes_the_history_at_the_cut(tmp_path):
    columns = {
        "u": [1, 1, 1, 1, 1, 2, 2, 3],
        "i": ["a", "b", "c", "d", "c", "a", "zz", "b"],
        "t": [10, 20, 30, 40, 41, 5, 42, 29],
        "where": ["t0", "t1", "v", "x0", "x1", "t", "x", "v"],
    }
    store = make(tmp_path, columns, split={"by": "time", "valid": 11, "test": 10})
    assert store.tables["events"].split.tolist() == [0, 0, 1, 2, 2, 0, 2, 1]
    test = store.queries("events", "items", "test")
    assert test.ids == ["1", "2"]
    assert test.event.tolist() == [3, 6]
    assert lists(test.targets) == [[2, 3], [-1]]
    assert histories(store, test) == [[0, 1, 2], [5]]
    assert lists(test.seen) == [[0, 1, 2], [0]]
    valid = store.queries("events", "items", "valid")
    assert valid.ids == ["1", "3"]
    assert histories(store, valid) == [[0, 1], []]
    batch = store.query_batch(test, np.array([1]), ["history", "where"])
    assert batch.columns["history"].values.tolist() == [store.codecs.codes["item"]["a"]]


def test_hash_splits_without_order_ask_with_the_users_set(tmp_path):
    rng = np.random.default_rng(1)
    n = 400
    columns = {"u": rng.integers(0, 20, n), "i": rng.choice(["a", "b", "c", "d", "zz"], n), "n": np.arange(n), "t": np.arange(n)}
    store = make(tmp_path, columns, time=None, split={"by": "hash", "key": ["u", "n"], "valid": 0.2, "test": 0.3})
    events, split = store.events["events"], store.tables["events"].split
    item = events.joins["items"]
    for name, code in (("valid", 1), ("test", 2)):
        queries = store.queries("events", "items", name)
        assert len(queries) == len(set(queries.users.tolist())) > 10
        answers = zip(queries.users, lists(queries.targets), histories(store, queries), lists(queries.seen), strict=True)
        for at, (user, targets, told, seen) in enumerate(answers):
            mine = events.user == user
            assert sorted(told) == np.flatnonzero(mine & (split < code)).tolist()
            wanted = item[mine & (split == code)]
            assert sorted(t for t in targets if t >= 0) == sorted(set(wanted[wanted >= 0].tolist()))
            assert targets.count(-1) == (wanted < 0).sum()
            before = item[mine & (split < code)]
            assert seen == sorted(set(before[before >= 0].tolist()))
            assert split[queries.event[at]] == code
            assert events.user[queries.event[at]] == user


def test_max_queries_draws_the_same_queries_every_time(tmp_path):
    n = 300
    columns = {"u": np.arange(n) % 50, "i": np.random.default_rng(0).choice(["a", "b", "c", "d"], n), "t": np.arange(n)}
    store = make(tmp_path, columns, split={"by": "position", "valid": 1, "test": 2})
    everything = store.queries("events", "items", "test")
    few = store.queries("events", "items", "test", max_queries=20, seed=5)
    again = store.queries("events", "items", "test", max_queries=20, seed=5)
    assert len(few) == 20
    assert few.event.tolist() == again.event.tolist() != store.queries("events", "items", "test", max_queries=20, seed=6).event.tolist()
    place = {event: at for at, event in enumerate(everything.event.tolist())}
    for at, event in enumerate(few.event.tolist()):
        assert lists(few.targets)[at] == lists(everything.targets)[place[event]]
        assert few.start[at] == everything.start[place[event]]


def test_all_users_hold_everything_and_have_no_targets(tmp_path):
    store = make(tmp_path, LAST_OUT, split={"by": "position", "valid": 1, "test": 1})
    queries = store.all_users("events", "items")
    assert queries.ids == ["7", "8", "9"]
    assert histories(store, queries) == [[0, 1, 2, 3], [4, 5], [6]]
    assert lists(queries.targets) == [[], [], []]
    assert queries.event.tolist() == [3, 5, 6]
    assert lists(queries.seen) == [[0, 1], [1, 2], [0]]


def test_queries_need_a_held_out_split_and_a_join(tmp_path):
    store = make(tmp_path, LAST_OUT)
    with pytest.raises(UsageError, match="not 'train'"):
        store.queries("events", "items", "train")
    with pytest.raises(UsageError, match="does not join 'events'"):
        store.queries("events", "events", "test")
    assert len(store.queries("events", "items", "test")) == 0


def test_some_held_out_events_are_targets_and_the_history_keeps_all(tmp_path):
    columns = {"u": [1] * 5, "i": ["a", "b", "c", "d", "a"], "t": [1, 2, 3, 4, 5], "where": ["x", "x", "y", "x", "y"]}
    store = make(tmp_path, columns, split={"by": "position", "valid": 1, "test": 3})
    assert lists(store.queries("events", "items", "test").targets) == [[2], [3], [0]]
    keep = np.array(columns["where"]) == "y"
    found = store.queries("events", "items", "test", keep=keep)
    assert (lists(found.targets), histories(store, found)) == ([[2], [0]], [[0, 1], [0, 1, 2, 3]])
