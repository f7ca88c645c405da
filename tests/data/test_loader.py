from __future__ import annotations

import sys
import threading
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from fakes import category, history, number, open_store, tags

from embedkit.config.model import StreamConfig
from embedkit.data.encoded import iter_encoded
from embedkit.data.loader import Loader, make_loader
from embedkit.data.sampler import BatchSampler
from embedkit.errors import DataError, UsageError


class Shuffle(BatchSampler):
    def __init__(self, config, *, context):
        super().__init__(config, context=context)
        self.batch = 0

    @property
    def batches_per_epoch(self):
        return -(-len(self.context.rows) // self.context.size)

    def __iter__(self):
        while True:
            epoch, batch = divmod(self.batch, self.batches_per_epoch)
            self.batch += 1
            order = np.random.default_rng([self.context.seed, epoch]).permutation(self.context.rows)
            yield order[batch * self.context.size : (batch + 1) * self.context.size]

    def state_dict(self):
        return {"batch": self.batch}

    def load_state_dict(self, state):
        self.batch = state["batch"]


class Registry:
    def entry(self, kind, name):
        assert kind == "sampler"
        return SimpleNamespace(
            parse=lambda options, where: SimpleNamespace(**options),
            load=lambda: Shuffle,
            create=lambda config, context: Shuffle(config, context=context),
        )


N = 9_000
FIELDS = [category("c", "rows"), number("x", "rows"), tags("l", "rows"), number("y", "rows", role="label")]


def table_store(tmp_path, path, n=N):
    rng = np.random.default_rng(0)
    columns = {
        "c": rng.integers(0, 50, n),
        "x": np.arange(n),
        "y": [None if i % 7 == 0 else i for i in range(n)],
        "l": [[int(v)] * (i % 3) for i, v in enumerate(rng.integers(0, 9, n))],
        "k": np.arange(n),
    }
    config = {"split": {"by": "hash", "key": ["k"], "test": 0.1}}
    return open_store(tmp_path, {"rows": (columns, config)}, FIELDS, path=path, row_group_size=500)


def make(store, name="main", rank=0, world=1, prefetch=2, fields=("c", "x", "l"), **stream):
    stream = StreamConfig(**({"table": "rows", "size": 1_000} | stream))
    return make_loader(store, name, stream, Registry(), 7, fields, rank=rank, world=world, prefetch=prefetch)


def signature(batch):
    return (
        batch.rows["rows"].tolist(),
        batch.columns["c"].values.tolist(),
        batch.columns["l"].offsets.tolist(),
        batch.labels["y"].sum().item(),
    )


@pytest.fixture(scope="module", params=["memory", "stream"])
def store(request, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("embedkit.data.units.UNIT_ROWS", 500)
        patch.setattr("embedkit.data.shuffle.BUFFER_UNITS", 4)
        store = table_store(tmp_path_factory.mktemp("rows"), request.param)
        assert len(store.tables["rows"].units) == 18
        yield store


def test_an_epoch_holds_every_train_row_once_with_its_values(store):
    loader = make(store)
    batches = list(islice(loader, loader.batches_per_epoch))
    rows = torch.cat([b.rows["rows"] for b in batches])
    assert sorted(rows.tolist()) == store.train_rows("rows").tolist()
    assert rows.tolist() != sorted(rows.tolist())
    for batch in (batches[0], batches[-1]):
        expected = store.batch({"rows": batch.rows["rows"]}, ["c", "x", "l"])
        assert torch.equal(batch.columns["x"].values.long(), batch.rows["rows"])
        assert torch.equal(batch.columns["c"].values, expected.columns["c"].values)
        assert torch.equal(batch.columns["l"].values, expected.columns["l"].values)
        assert torch.equal(batch.extras["y.present"], batch.rows["rows"] % 7 != 0)
        assert set(batch.columns) == {"c", "x", "l"}


@pytest.mark.parametrize("prefetch", [0, 2])
def test_resume_gives_the_batches_that_would_have_followed(store, prefetch):
    straight = [signature(b) for b in islice(make(store, prefetch=0), 12)]
    loader = make(store, prefetch=prefetch)
    for stop in (1, 3, 8, 10):
        got = [signature(b) for b in islice(loader, stop)]
        assert got == straight[:stop]
        state = loader.state_dict()
        loader = make(store, prefetch=prefetch)
        loader.load_state_dict(state)
        assert [signature(b) for b in islice(loader, 2)] == straight[stop : stop + 2]
        loader.load_state_dict(make(store).state_dict())


def test_iterating_again_goes_on_after_the_last_batch_handed_out(store):
    straight = [signature(b) for b in islice(make(store, prefetch=0), 4)]
    loader = make(store)
    got = [signature(b) for _ in range(4) for b in islice(loader, 1)]
    assert got == straight


def test_ranks_share_a_batch_in_contiguous_pieces(store):
    whole = [b.rows["rows"] for b in islice(make(store, size=1001), 3)]
    ranks = [[b.rows["rows"] for b in islice(make(store, size=1001, rank=r, world=3), 3)] for r in range(3)]
    assert [len(r[0]) for r in ranks] == [334, 334, 333]
    for at, batch in enumerate(whole):
        assert torch.equal(torch.cat([r[at] for r in ranks]), batch)


def test_streams_have_orders_of_their_own(store):
    one, two = (next(iter(make(store, name=name))).rows["rows"] for name in ("a", "b"))
    assert one.tolist() != two.tolist()


def test_the_prefetch_thread_ends_with_the_iteration_and_hands_errors_on(store, monkeypatch):
    before = threading.active_count()
    batches = iter(make(store))
    next(batches)
    batches.close()
    assert threading.active_count() == before
    loader = make(store)

    def fail(*args, **kwargs):
        raise DataError("row 3 is bad")

    monkeypatch.setattr(store, "batch", fail)
    with pytest.raises(DataError, match="row 3 is bad"):
        next(iter(loader))


def test_streams_that_cannot_be(tmp_path):
    store = table_store(tmp_path, "stream", n=1000)
    with pytest.raises(UsageError, match=r"streams\.main\.size: a batch of 2,000 is larger than the data, \d+ train rows of 'rows'"):
        make(store, size=2000)
    with pytest.raises(UsageError, match="sampler 'uniform' draws rows from anywhere, but table 'rows' is streamed"):
        make(store, size=10, sampler="uniform")
    with pytest.raises(UsageError, match=r"rows = 'events' needs an event table; set tables\.rows\.user"):
        make(store, size=10, rows="events")
    with pytest.raises(UsageError, match="rows = 'windows' needs an event table"):
        make(store, size=10, rows="windows")
    with pytest.raises(UsageError, match="there is no table 'row'"):
        make(store, table="row")


ITEMS = ({"id": ["a", "b", "c", "d"], "price": [1.0, 2.0, 3.0, 4.0]}, {"key": "id"})
USERS = ({"u": [5, 4, 3], "age": [50, 40, 30]}, {"key": "u"})
EVENTS = {
    "u": [5, 4, 5, 5, 4, 5, 3, 5, 5],
    "i": ["a", "b", "b", "c", "a", "zz", "d", "d", "a"],
    "p": [0, 0, 1, 2, 1, 3, 0, 4, 5],
    "hour": [1, 2, 3, 4, 5, 6, 7, 8, 9],
}
CONFIG = {"join": {"i": "items", "u": "users"}, "user": "u", "position": "p"}
EVENT_FIELDS = [
    category("id", "items", domain="item", role="key"),
    number("price", "items"),
    number("age", "users"),
    number("hour", "events"),
    history(max_length=2),
]


def event_store(tmp_path, more=(), **config):
    return open_store(tmp_path, {"items": ITEMS, "users": USERS, "events": (EVENTS, CONFIG | config)}, [*EVENT_FIELDS, *more])


def test_event_batches_hold_targets_users_and_histories(tmp_path):
    store = event_store(tmp_path)
    loader = make(store, table="events", rows="events", size=8, fields=("id", "price", "age", "hour", "history"))
    batch = next(iter(loader))
    assert sorted(batch.rows["events"].tolist()) == [0, 1, 2, 3, 4, 6, 7, 8]
    assert batch.columns["hour"].values.tolist() == [float(e + 1) for e in batch.rows["events"]]
    assert batch.columns["age"].values.tolist() == [float(EVENTS["u"][e] * 10) for e in batch.rows["events"]]
    assert batch.columns["price"].values.tolist() == [float(r + 1) for r in batch.rows["items"]]
    assert set(batch.rows) == {"events", "items", "users"}
    at = batch.rows["events"].tolist().index(7)
    told, codes = batch.columns["history"], store.codecs.codes["item"]
    assert told.values[told.offsets[at] : told.offsets[at + 1]].tolist() == [codes["c"], 0]


def test_windows_have_a_target_at_every_position(tmp_path):
    fields = ("id", "price", "age", "hour", "history")
    store = event_store(tmp_path, split={"by": "position", "test": 1})
    loader = make(store, table="events", rows="windows", size=1, fields=fields)
    batch = next(iter(loader))
    codes = store.codecs.codes["item"]
    assert batch.window == "history"
    # User 5: a b c (unknown) d | a is test. The last three known train events are b, c, d; user 4 has one train event, user 3 one.
    assert batch.columns["history"].values.tolist() == [codes["b"], codes["c"]]
    assert batch.columns["history"].offsets.tolist() == [0, 2]
    assert batch.rows["items"].tolist() == [2, 3]
    assert batch.columns["price"].values.tolist() == [3.0, 4.0]
    assert batch.rows["events"].tolist() == [7]
    assert batch.columns["hour"].values.tolist() == [8.0]
    assert batch.columns["age"].values.tolist() == [50.0]
    store = event_store(tmp_path)
    batch = next(iter(make(store, table="events", rows="windows", size=2, fields=fields)))
    offsets, told = batch.columns["history"].offsets, batch.columns["history"]
    names = {code: name for name, code in store.codecs.codes["item"].items()}
    found = {
        batch.columns["age"].values[b].item(): (
            [names[x] for x in told.values[offsets[b] : offsets[b + 1]].tolist()],
            ["abcd"[r] for r in batch.rows["items"][offsets[b] : offsets[b + 1]].tolist()],
        )
        for b in range(2)
    }
    assert found == {50.0: (["c", "d"], ["d", "a"]), 40.0: (["b"], ["a"])}
    assert len(batch.columns["price"]) == int(offsets[-1]) == 3


def test_the_weights_of_windows_are_those_of_the_target_events(tmp_path):
    store = event_store(tmp_path, more=(number("importance", "events", column="hour", role="weight"),))
    batch = next(iter(make(store, table="events", rows="windows", size=2, fields=("id", "history", "importance"))))
    assert len(batch.labels["importance"]) == len(batch.rows["items"]) == 3
    by_target = dict(zip(batch.rows["items"].tolist(), batch.labels["importance"].tolist(), strict=True))
    events = {
        (row, user): hour for row, user, hour in zip(store.events["events"].joins["items"].tolist(), EVENTS["u"], range(1, 10), strict=True)
    }
    assert by_target[3] == events[3, 5]  # user 5: c, then d
    assert "importance" not in batch.columns
    rows = next(iter(make(store, table="events", rows="events", size=3, fields=("id", "history", "importance"))))
    assert rows.labels["importance"].tolist() == [float(e + 1) for e in rows.rows["events"]]


@pytest.mark.parametrize("ordered", [True, False])
def test_users_are_asked_for_all_of_their_items(tmp_path, ordered):
    store = event_store(tmp_path, **({} if ordered else {"position": None}))
    batch = next(iter(make(store, table="events", rows="users", size=2, fields=("id", "price", "age", "history"))))
    assert (batch.window, batch.asks) == ("history", "all")
    codes, told = store.codecs.codes["item"], batch.columns["history"]
    for b, (start, stop) in enumerate(zip(told.offsets[:-1].tolist(), told.offsets[1:].tolist(), strict=True)):
        asked = ["abcd"[row] for row in batch.rows["items"][start:stop].tolist()]
        assert told.values[start:stop].tolist() == [codes[name] for name in asked]
        assert sorted(asked) == {50.0: ["a", "d"], 40.0: ["a", "b"]}[batch.columns["age"].values[b].item()] or not ordered  # the last two
    assert len(batch.columns["price"]) == len(told.values) == 4


def test_windows_need_a_strict_order_and_a_history(tmp_path):
    fields = ("id", "history")
    store = event_store(tmp_path, position=None, time="hour")
    assert make(store, table="events", rows="windows", size=1, fields=fields).batches_per_epoch == 2
    columns = EVENTS | {"hour": [1] * 9}
    tables = {"items": ITEMS, "users": USERS, "events": (columns, CONFIG | {"position": None, "time": "hour"})}
    tied = open_store(tmp_path, tables, EVENT_FIELDS)
    with pytest.raises(UsageError, match="strict order, but 6 events of 'events' come at the same time"):
        make(tied, table="events", rows="windows", size=1, fields=fields)
    unordered = event_store(tmp_path, position=None)
    with pytest.raises(UsageError, match="needs an order"):
        make(unordered, table="events", rows="windows", size=1, fields=fields)
    with pytest.raises(UsageError, match="needs a history"):
        make(store, table="events", rows="windows", size=1, fields=("id",))


def test_iter_encoded_reads_units_with_their_ids(tmp_path):
    store = event_store(tmp_path)
    table = store.tables["items"]
    fields = [store.schema.fields["price"]]
    ((unit, ids, batch),) = iter_encoded(table, store.codecs, fields)
    assert unit == table.units[0]
    assert ids.to_pylist() == ["a", "b", "c", "d"]
    assert batch.columns["price"].values.tolist() == [1.0, 2.0, 3.0, 4.0]
    assert batch.rows["items"].tolist() == [0, 1, 2, 3]
    assert list(iter_encoded(table, store.codecs, fields, [])) == []


def test_a_loader_can_be_built_from_any_sampler(tmp_path):
    store = event_store(tmp_path)
    context = SimpleNamespace(rows=store.train_rows("items"), size=2, seed=1)
    stream = StreamConfig(table="items", size=2)
    loader = Loader(store, stream, Shuffle(None, context=context), ["price"])
    assert loader.batches_per_epoch == 2
    assert len(next(iter(loader)).columns["price"]) == 2
