from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch
from pydantic import ValidationError

from embedkit.errors import DataError, UsageError
from embedkit.evaluate import vectors
from embedkit.evaluate.base import EvaluateContext
from embedkit.testing.conformance.evaluator import EvaluatorConformance
from embedkit_itemrec import task
from embedkit_itemrec.configs_retrieval import RetrievalConfig
from embedkit_itemrec.retrieval import Retrieval


def many_rows(users: int = 60, items: int = 25, seed: int = 0) -> list[tuple[int, int, int]]:
    """Users who walk through the items in small steps; their last event is the test event."""
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(users):
        steps = (rng.integers(0, items) + np.cumsum(rng.integers(1, 3, size=rng.integers(2, 9)))) % items
        rows += [(user, int(item), 2 if i == len(steps) - 1 else 0) for i, item in enumerate(steps)]
    return rows


@pytest.fixture
def run(make_store, make_model):
    """Run the evaluator with options on a store; returns estimates by (model, slice, metric), and the table."""

    def go(store=None, *, model=None, quick=False, max_queries=None, split="test", precision=torch.float32, **options):
        store = store or make_store(many_rows(), 25)
        config = RetrievalConfig(**({"query": "user", "target": "item", "exclude_seen": False} | options))
        tables: dict[str, pl.DataFrame] = {}
        context = EvaluateContext(
            model=model or make_model(store.items), store=store, split=split, device=torch.device("cpu"), seed=3, precision=precision,
            save_table=tables.__setitem__, quick=quick, max_queries=max_queries,
        )  # fmt: skip
        found = Retrieval(config, context=None).run(context)
        return {(e.model, e.slice, e.metric): e for e in found}, tables

    return go


class TestConformance(EvaluatorConformance):
    @pytest.fixture(autouse=True)
    def _tools(self, make_store, make_model):
        self.make_store, self.make_model = make_store, make_model

    def evaluator(self):
        slices = ["popularity", "cold", "history"]
        return Retrieval(RetrievalConfig(query="user", target="item", exclude_seen=True, k=[1, 5], slices=slices), context=None)

    def evaluate_context(self):
        store = self.make_store(many_rows(), 25)
        return EvaluateContext(self.make_model(25), store, "test", torch.device("cpu"), 0, lambda name, frame: None)


def test_baselines_stand_beside_the_model(run):
    found, tables = run()
    assert {model for model, _, _ in found} == {"model", "popularity", "repeat_last", "markov"}
    assert found["markov", None, "recall@10"].value > found["popularity", None, "recall@10"].value
    frame = tables["queries-test"]
    assert frame.height == 4 * 60
    markov = frame.filter(pl.col("model") == "markov")
    assert markov["recall@10"].mean() == pytest.approx(found["markov", None, "recall@10"].value)
    assert frame.columns[:5] == ["model", "query", "user", "targets", "ranks"]


def test_the_ranks_are_those_of_the_dot_products(run, make_store, make_model):
    store, model = make_store(many_rows(), 25), make_model(25)
    _, tables = run(store, model=model)
    queries = store.queries("events", "items", "test")
    items = model.encode(store.batch({"items": torch.arange(25)}, ("item_id",)), "item")
    scores = model.encode(store.query_batch(queries, np.arange(60), ("history",)), "user") @ items.T
    own = scores.gather(1, torch.from_numpy(queries.targets[0]).unsqueeze(1))
    wanted = 1 + (scores > own).sum(dim=1)
    got = tables["queries-test"].filter(pl.col("model") == "model")["ranks"].explode().to_list()
    assert got == wanted.tolist()


@pytest.mark.parametrize(("ahead", "together"), [(1, 1), (16, 5), (7, 60), (64, 9)])
def test_ranks_are_the_same_however_many_queries_are_embedded_at_a_time(run, monkeypatch, ahead, together):
    _, tables = run()
    monkeypatch.setattr(task, "_AHEAD", ahead)
    monkeypatch.setattr(vectors, "QUERY_BATCH", together)
    _, again = run()
    assert again["queries-test"].equals(tables["queries-test"])


def test_seen_items_are_left_out_only_when_asked(run, make_store):
    rows = [(0, 0, 0), (0, 1, 0), (0, 0, 2), (1, 2, 0), (1, 3, 2), (2, 0, 0), (2, 3, 2)]
    kept, _ = run(make_store(rows, 4), baselines=["popularity"], k=[4])
    assert kept["popularity", None, "recall@4"].value == 1
    assert kept["popularity", None, "unranked"].value == 0
    left_out, tables = run(make_store(rows, 4), baselines=["popularity"], k=[4], exclude_seen=True)
    assert left_out["popularity", None, "recall@4"].value == pytest.approx(2 / 3)  # the repeat cannot be found
    assert left_out["model", None, "unranked"].value == pytest.approx(1 / 3)
    assert tables["queries-test"].filter(pl.col("model") == "model")["ranks"].to_list()[0] == [None]


def test_a_target_that_is_not_in_the_table_is_a_miss_for_everyone(run, make_store):
    rows = [(0, 0, 0), (0, -1, 2), (1, 1, 0), (1, 0, 2)]
    found, _ = run(make_store(rows, 3), k=[3], slices=["cold"])
    for model in ("model", "popularity", "markov"):
        assert found[model, None, "recall@3"].value == 0.5
        assert found[model, "cold:yes", "recall@3"].value == 0
        assert found[model, "cold:no", "recall@3"].value == 1
        assert found[model, None, "unranked"].value == 0.5


def test_a_cold_item_of_the_table_can_be_ranked_by_the_model(run, make_store, make_model):
    rows = [(user, 0, 0) for user in range(20)] + [(user, 1, 2) for user in range(20)]
    store, model = make_store(rows, 3), make_model(3)
    model.table.weight.data[1] = model.table.weight.data[0]  # as features would place it
    found, _ = run(store, model=model, k=[2], slices=["cold"])
    assert found["model", "cold:yes", "recall@2"].value == 1
    assert found["model", None, "tied"].value == 1
    assert found["popularity", "cold:yes", "recall@2"].value < 0.9  # ordered by lot among the unseen


def test_slices_are_parts_of_the_queries(run):
    found, _ = run(slices=["popularity", "history"])
    for kind in ("popularity", "history"):
        parts = [e for (m, s, metric), e in found.items() if m == "model" and metric == "recall@10" and (s or "").startswith(kind)]
        assert sum(e.n for e in parts) == 60
        whole = sum(e.n * e.value for e in parts) / 60
        assert whole == pytest.approx(found["model", None, "recall@10"].value)


def test_without_order_only_popularity_is_a_default(run, make_store):
    store = make_store(many_rows(), 25, ordered=False)
    found, _ = run(store)
    assert {model for model, _, _ in found} == {"model", "popularity"}
    with pytest.raises(UsageError, match=r"'markov' needs events in order, and table 'events' declares neither time nor position"):
        run(store, baselines=["markov"])


def test_all_baselines_can_be_asked_for(run, make_store):
    rows = many_rows()
    store = make_store(rows, 25, group=[1 + user % 3 for user, _, _ in rows])
    found, _ = run(store, baselines=["item_knn", "ease", "history_and_group"], group="module", l2=1.0)
    assert {model for model, _, _ in found} == {"model", "item_knn", "ease", "history_and_group"}


def test_what_is_shown_has_figures_beside_the_baselines(run, make_store):
    rows = many_rows()
    store = make_store(rows, 25)
    found, tables = run(store, metrics=["novelty", "popularity_bias", "gini", "coverage"], k=[3], baselines=["popularity"])
    counts = np.bincount([item for _, item, split in rows if split == 0], minlength=25)
    best = np.argsort(-counts)[:4]
    bits = -np.log2(np.maximum(counts, 1) / np.maximum(counts, 1).sum())
    novelty = found["popularity", None, "novelty@3"]
    assert novelty.value == pytest.approx(bits[best[:3]].mean(), abs=0.2)
    assert novelty.low - 1e-9 <= novelty.value <= novelty.high + 1e-9  # all users are shown the same items
    assert found["model", None, "novelty@3"].value > novelty.value
    assert found["popularity", None, "popularity_bias@3"].value > max(1.0, found["model", None, "popularity_bias@3"].value)
    assert found["popularity", None, "gini@3"].value > 0.8 > found["model", None, "gini@3"].value
    assert found["model", None, "popularity_bias@3"].low is None
    assert tables["queries-test"].filter(pl.col("model") == "model")["novelty@3"].mean() == pytest.approx(
        found["model", None, "novelty@3"].value
    )


def test_a_bias_over_nothing_is_left_out(run, make_store):
    """Nobody has a history, so nobody's recommendations can be more popular than it."""
    found, _ = run(make_store([(0, 1, 2), (1, 0, 2)], 3), baselines=["popularity"], k=[1])
    assert ("model", None, "recall@1") in found
    assert ("model", None, "popularity_bias@1") not in found


def test_tail_and_short_slices(run, make_store):
    rows = [*[(user, 0, 0) for user in range(9)], (9, 1, 0), *[(user, 1, 2) for user in range(4)], (9, 0, 2)]
    found, _ = run(make_store(rows, 3), slices=["tail", "short"], tail_events=1, short_history=0, k=[1], metrics=["recall"])
    assert found["popularity", "tail:1-1", "recall@1"].n == 4  # item 1 has one train event
    assert found["popularity", "tail:1-1", "recall@1"].value == 0
    assert not [key for key in found if key[1] == "short:0-0"]  # no query without a history


def test_prefixes_are_measured_for_the_model_alone(make_store, make_model):
    store, model = make_store(many_rows(), 25), make_model(25)
    model.prefixes = {"item": (2, 4, 8), "user": (4, 8)}
    model.heads = {tower: SimpleNamespace(normalized=True) for tower in ("item", "user")}

    def measured(prefixes, dims=8):
        config = RetrievalConfig(query="user", target="item", exclude_seen=False, k=[3], metrics=["ndcg"], prefixes=prefixes)
        context = EvaluateContext(Cut(model, dims), store, "test", torch.device("cpu"), 3, lambda name, frame: None)
        return {(e.model, e.prefix): e for e in Retrieval(config, context=None).run(context) if e.metric == "ndcg@3"}

    found = measured(True)
    assert [key for key in found if key[1]] == [("model", 4)]  # common to both towers, and not the whole
    assert found["model", 4].low < found["model", 4].value < found["model", 4].high
    assert found["model", 4].value == pytest.approx(measured(False, 4)["model", None].value)
    assert [key for key in measured([2, 8]) if key[1]] == [("model", 2)]
    with pytest.raises(UsageError, match="prefixes names 9, and embeddings have 8 numbers"):
        measured([9])


class Cut(torch.nn.Module):
    """A model that gives the first numbers of another's embeddings, at unit length."""

    def __init__(self, model, dims: int) -> None:
        super().__init__()
        self.model, self.prefixes, self.heads = model, model.prefixes, model.heads
        self.dims = dict.fromkeys(model.dims, dims)

    def encode(self, batch, tower):
        return torch.nn.functional.normalize(self.model.encode(batch, tower)[:, : self.dims[tower]], dim=-1)


def test_quick_asks_for_few_queries_and_saves_nothing(run, make_store):
    store = make_store(many_rows(), 25)
    found, tables = run(store, quick=True, max_queries=10, k=[1, 5], metrics=["ndcg", "coverage"])
    assert store.asked[-1] == ("events", "items", "test", 10, 3)
    assert [metric for _, _, metric in found] == ["ndcg@1", "coverage@1", "ndcg@5", "coverage@5"]
    assert all(e.n == 10 for e in found.values())
    assert not tables


def test_low_precision_is_close(run):
    exact, low = run()[0], run(precision=torch.bfloat16)[0]
    assert low["model", None, "recall@10"].value == pytest.approx(exact["model", None, "recall@10"].value, abs=0.1)


def test_exclude_seen_has_no_default():
    with pytest.raises(ValidationError, match="exclude_seen"):
        RetrievalConfig(query="user", target="item")
    with pytest.raises(ValidationError, match="give 'target_field' and 'target_values' together"):
        RetrievalConfig(query="user", target="item", exclude_seen=True, target_field="kind")
    with pytest.raises(ValidationError, match="needs 'group'"):
        RetrievalConfig(query="user", target="item", exclude_seen=True, baselines=["history_and_group"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"events": "clicks"}, "events = 'clicks' is not an event table that joins 'items'; there is events"),
        ({"baselines": ["history_and_group"], "group": "modul"}, "group = 'modul' is no field of table 'events'"),
    ],
)
def test_wrong_options_are_refused_in_one_sentence(run, options, message):
    with pytest.raises(UsageError, match=message):
        run(**options)


def test_a_split_without_queries_is_refused(run):
    with pytest.raises(DataError, match="its valid split has no query"):
        run(split="valid")


def test_a_diverged_model_is_refused(run, make_model):
    model = make_model(25)
    model.table.weight.data[3] = torch.nan
    with pytest.raises(DataError, match="tower 'item': an embedding is not finite"):
        run(model=model)
