from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
import torch.nn.functional as F

import embedkit
from embedkit.bundle import load_bundle
from embedkit.data.columns import Column
from embedkit.errors import UsageError
from embedkit.host import Host
from embedkit.launch import prepare
from embedkit.testing.conformance.loss import PlainStep, loss_context
from embedkit.training.run import train_run
from embedkit_itemrec.configs import SoftmaxConfig
from embedkit_itemrec.softmax import Softmax

ITEMS, USERS, EVENTS = 40, 60, 7

RUN = {
    "format": 1,
    "name": "shop",
    "tables": {
        "items": {"uri": "items.parquet", "key": "item_id"},
        "events": {
            "uri": "events.parquet",
            "join": {"item_id": "items"},
            "user": "user",
            "position": "position",
            "split": {"by": "position", "valid": 1, "test": 1},
        },
    },
    "fields": {
        "item_id": {"table": "items", "type": "category", "domain": "item"},
        "kind": {"table": "items", "type": "category"},
        "history": {"table": "events", "type": "sequence", "domain": "item", "max_length": 6},
    },
    "towers": {"item": ["item_id", "kind"], "user": ["history"]},
    "model": {
        "dim": 16,
        "encoders": [{"use": "tower", "tower": "item", "fields": ["history"]}],
        "trunks": {"item": {"use": "mlp", "hidden": [16]}, "user": {"use": "transformer", "layers": 1}},
        "head": {"use": "linear", "identity": True},
    },
    "stages": [
        {
            "use": "train",
            "epochs": 6,
            "streams": {"main": {"table": "events", "rows": "windows", "sampler": "bucketed", "size": 16}},
            "losses": [{"use": "softmax", "query": "user", "target": "item", "temperature": 0.1}],
            "optimizer": {"use": "adamw", "lr": 0.02},
            "validate": {"metric": "ndcg@5"},
        }
    ],
    "evaluate": [{"use": "retrieval", "query": "user", "target": "item", "k": [5], "exclude_seen": False}],
    "compute": {"device": "cpu", "threads": 1},
}


@pytest.fixture
def shop(tmp_path):
    """Items of 5 kinds in a cycle: who took kind k takes kind k + 1 next."""
    rng = np.random.default_rng(0)
    kind = np.arange(ITEMS) % 5
    pl.DataFrame({"item_id": [f"i{i}" for i in range(ITEMS)], "kind": [f"k{k}" for k in kind]}).write_parquet(tmp_path / "items.parquet")
    user, position = np.repeat(np.arange(USERS), EVENTS), np.tile(np.arange(EVENTS), USERS)
    item = (rng.integers(0, ITEMS // 5, len(user)) * 5 + (user + position) % 5) % ITEMS
    events = pl.DataFrame({"user": user, "position": position, "item_id": [f"i{i}" for i in item]})
    events.write_parquet(tmp_path / "events.parquet")
    return tmp_path


def trained(folder, run):
    host = Host.load()
    launch = prepare(run, host, base=folder)
    return train_run(launch.plan, launch.create_folder(folder / "runs"), host)


def changed(**model):
    run = copy.deepcopy(RUN)
    run["model"] |= model
    return run


def test_is_the_cross_entropy_over_all_items():
    loss = Softmax(SoftmaxConfig(query="user", target="item", temperature=0.2), context=loss_context())
    step = PlainStep(loss.needs)
    rows = step.views["main"].batch.rows["items"]
    rows[1] = -1
    queries, items = step.run("main", "user").embedding, step.run("*", "item").embedding
    keep = rows >= 0
    want = F.cross_entropy((queries @ items.T / 0.2)[keep], rows[keep])
    torch.testing.assert_close(loss(step).loss, want)


def test_items_without_a_train_event_may_be_left_out():
    context = loss_context()
    loss = Softmax(SoftmaxConfig(query="user", target="item", candidates="trained"), context=context)
    step = PlainStep(loss.needs)
    trained = context.frequencies("items") > 0
    step.views["main"].batch.rows["items"].copy_(trained.nonzero().squeeze(1)[:6])
    items = next(leaf for leaf in step.leaves if len(leaf) == 10)
    loss(step).loss.backward()
    assert not items.grad[~trained].any()
    assert items.grad[trained].any(1).all()


def test_towers_of_two_widths_are_refused():
    context = loss_context()
    context.tower_dims["user"] = 4
    with pytest.raises(UsageError, match="give both heads one width"):
        Softmax(SoftmaxConfig(query="user", target="item"), context=context)


def test_one_item_tower_for_histories_and_targets(shop):
    result = trained(shop, RUN)
    assert result.metrics["recall@5"] > 0.3  # eight items follow with equal chance: 5 of 40 would be 0.125, 5 of the right 8 is 0.6
    bundle = load_bundle(result.bundle, Host.load().registry)
    vectors = bundle.model.encoders["tower"].vectors
    assert vectors.shape == (len(bundle.codecs.vocabularies["item"].values) + 1, 16)
    model = embedkit.load(result.bundle)
    items = model.encode(pl.read_parquet(shop / "items.parquet"), tower="item")
    again = model.encode([{"history": ["i0", "i1"]}, {"history": ["i1", "never seen"]}], tower="user")
    assert items.shape == (ITEMS, 16)
    assert again.shape == (2, 16)
    assert np.isfinite(again).all()


def test_kept_vectors_are_those_of_the_item_tower(shop):
    result = trained(shop, RUN)
    bundle = load_bundle(result.bundle, Host.load().registry)
    frame = pl.read_parquet(shop / "items.parquet")
    codes = bundle.codecs.encode(frame.to_arrow(), ["item_id", "kind"], path="items")
    from embedkit.views import View

    with torch.no_grad():
        pooled = bundle.model.eval()(View(codes), "item").pooled
    known = codes.columns["item_id"].values > 0
    torch.testing.assert_close(bundle.model.encoders["tower"].vectors[codes.columns["item_id"].values[known]], pooled[known])


@pytest.mark.parametrize("share", [True, False])
def test_the_item_tower_learns_from_histories(shop, share):
    run = copy.deepcopy(RUN)
    if not share:  # without a loss on the catalogue the distinct rows of a batch are computed
        run["stages"][0]["losses"] = [{"use": "sampled_softmax", "query": "user", "target": "item", "temperature": 0.1}]
    assert trained(shop, run).metrics["recall@5"] > 0.25


def test_a_tower_that_reads_itself_is_refused(shop):
    run = changed(encoders=[{"use": "tower", "tower": "user", "fields": ["history"]}])
    with pytest.raises(UsageError, match="itself read from a tower"):
        trained(shop, run)


def test_the_bucketed_sampler_wants_a_history(shop):
    run = copy.deepcopy(RUN)
    run["stages"][0]["streams"]["main"] = {"table": "items", "sampler": "bucketed", "size": 16}
    run["stages"][0]["losses"] = [{"use": "info_nce", "tower": "item", "views": ["main", "main"]}]
    with pytest.raises(UsageError, match="length of their history"):
        trained(shop, run)


def masked(run):
    """The run file as a masked-item model."""
    run = copy.deepcopy(run)
    run["model"]["encoders"][0] |= {"append_hidden": True}
    run["model"]["trunks"]["user"] = {"use": "transformer", "causal": False, "dropout": 0.0}
    run["fields"]["history"]["max_length"] = 4  # what training shows is as long as what is asked: three values and a hidden one
    stage = run["stages"][0]
    stage["streams"]["main"]["rows"] = "sequences"
    stage["views"] = [{"use": "item_masking", "of": "main", "makes": ["part"], "fields": ["history"], "share": 0.3, "last": 0.3}]
    stage["losses"][0] |= {"view": "part"}
    stage["optimizer"]["lr"] = 0.005
    stage["epochs"] = 100
    del stage["validate"]
    return run


@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_a_masked_item_model_tells_what_comes_next(shop, positions):
    run = masked(RUN)
    run["model"]["trunks"]["user"]["positions"] = positions
    result = trained(shop, run)
    assert result.metrics["recall@5"] > 0.25


def test_positions_that_show_their_item_are_not_asked_for_it(shop):
    run = masked(RUN)
    run["stages"][0]["losses"][0]["view"] = "main"
    with pytest.raises(UsageError, match="asks for the items of 'history' and shows them all: hide some by the augmentation item_masking"):
        trained(shop, run)


@pytest.mark.parametrize("loss", ["gbce", "bpr"])
@pytest.mark.parametrize("sampler", ["uniform", "popularity"])
def test_losses_with_drawn_negatives_learn_what_comes_next(shop, loss, sampler):
    run = copy.deepcopy(RUN)
    stage = run["stages"][0]
    stage["streams"]["others"] = {"table": "items", "sampler": sampler, "size": 32}
    stage["epochs"] = 30
    stage["losses"] = [{"use": loss, "query": "user", "target": "item", "negatives": "others", "temperature": 0.1}]
    assert trained(shop, run).metrics["recall@5"] > 0.2


def asked_for_all(loss="softmax", **options):
    """A model of the set of a user's items: one vector a user, all hidden items at once. No order is declared."""
    run = copy.deepcopy(RUN)
    del run["tables"]["events"]["position"]
    run["tables"]["events"]["split"] = {"by": "hash", "key": ["user", "position"], "valid": 0.1, "test": 0.2}
    run["fields"]["history"]["max_length"] = 20
    run["model"] |= {"encoders": [{"use": "embedding", "fields": ["item_id", "history"], "pool_sequences": True}], "trunk": {"use": "mean"}}
    run["model"].pop("trunks")
    stage = run["stages"][0]
    stage["streams"] = {
        "main": {"table": "events", "rows": "users", "size": 8},
        "others": {"table": "items", "sampler": "uniform", "size": 32},
    }
    stage["views"] = [{"use": "value_dropout", "of": "main", "makes": ["part"], "fields": ["history"], "share": 0.5}]
    stage["losses"] = [{"use": loss, "view": "part", "query": "user", "target": "item", "temperature": 0.1, **options}]
    stage["epochs"] = 20
    return run


@pytest.fixture
def tastes(shop):
    """Each user takes ten times one of eight items of a kind."""
    rng = np.random.default_rng(0)
    user, position = np.repeat(np.arange(USERS), 10), np.tile(np.arange(10), USERS)
    item = rng.integers(0, ITEMS // 5, len(user)) * 5 + user % 5
    pl.DataFrame({"user": user, "position": position, "item_id": [f"i{i}" for i in item]}).write_parquet(shop / "events.parquet")
    return shop


@pytest.mark.parametrize(
    ("loss", "options"),
    [
        ("softmax", {}),
        ("sampled_softmax", {}),
        ("gbce", {"negatives": "others"}),
        ("bpr", {"negatives": "others"}),
        ("mined_softmax", {"negatives": "others", "every": 8, "depth": 20}),
    ],
)
def test_users_asked_for_all_hidden_items_learn_their_taste(tastes, loss, options):
    run = asked_for_all(loss, **options)
    if "negatives" not in options:
        del run["stages"][0]["streams"]["others"]
    assert trained(tastes, run).metrics["recall@5"] > 0.45  # 5 of 40 would be 0.125, 5 of the right 8 about 0.6


def test_many_targets_of_a_user_are_as_many_queries(shop):
    step = PlainStep(Softmax(SoftmaxConfig(query="user", target="item"), context=loss_context()).needs)
    batch = step.views["main"].batch
    told = Column(torch.zeros(6, dtype=torch.int64), torch.tensor([0, 1, 1, 4, 4, 6, 6]))
    hidden = torch.tensor([True, True, False, True, True, True])
    view = replace(
        step.views["main"], batch=replace(batch, columns={"history": told}, window="history", asks="all"), hidden_values={"history": hidden}
    )
    step.views["main"] = view
    rows = torch.tensor([0, 2, 2, 4, 4, 2])
    asking = torch.tensor([0, 2, 2, 2, 4, 4])
    items, queries = step.run("*", "item").embedding, step.run("main", "user").embedding
    loss = Softmax(SoftmaxConfig(query="user", target="item", temperature=0.2), context=loss_context())
    targets = batch.rows["items"][rows]
    step.views["main"] = replace(view, batch=replace(view.batch, rows={"items": targets}))
    want = F.cross_entropy((queries[asking] @ items.T / 0.2)[hidden], targets[hidden])
    torch.testing.assert_close(loss(step).loss, want)


def test_users_who_hide_nothing_are_refused(tastes):
    run = asked_for_all()
    del run["stages"][0]["streams"]["others"], run["stages"][0]["views"]
    run["stages"][0]["losses"][0]["view"] = "main"
    with pytest.raises(UsageError, match="asks for the items of 'history' and shows them all: hide some by the augmentation value_dropout"):
        trained(tastes, run)


@pytest.mark.parametrize("trunk", [{"use": "gru"}, {"use": "transformer", "layers": 1, "positions": "rotary"}])
def test_other_trunks_learn_what_comes_next(shop, trunk):
    run = changed(trunks={"item": {"use": "mlp", "hidden": [16]}, "user": trunk})
    assert trained(shop, run).metrics["recall@5"] > 0.3


def test_hard_negatives_beside_random_ones_teach_what_comes_next(shop):
    run = copy.deepcopy(RUN)
    stage = run["stages"][0]
    stage["streams"]["others"] = {"table": "items", "sampler": "uniform", "size": 16}
    mined = {"negatives": "others", "every": 8, "depth": 20, "temperature": 0.1}
    stage["losses"] = [{"use": "mined_softmax", "query": "user", "target": "item", **mined}]
    stage["epochs"] = 20
    assert trained(shop, run).metrics["recall@5"] > 0.3
