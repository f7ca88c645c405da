from __future__ import annotations

import ir_measures
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ir_measures import AP, RR, P, R, Success, nDCG

from embedkit.evaluate.metrics import METRICS, MISS, Ranks, coverage, measure


def make(lists: list[list[int]]) -> Ranks:
    offsets = np.concatenate(([0], np.cumsum([len(x) for x in lists]))).astype(np.int64)
    return Ranks(np.array([r for x in lists for r in x], dtype=np.int64), offsets)


@st.composite
def ragged_ranks(draw: st.DrawFn, items: int = 60) -> list[list[int]]:
    """Per query: distinct ranks among the items, some of them misses."""
    rows = []
    for _ in range(draw(st.integers(1, 6))):
        found = draw(st.lists(st.integers(1, items), unique=True, max_size=12))
        missing = draw(st.integers(0 if found else 1, 3))
        rows.append([*found, *[MISS] * missing])
    return rows


def reference(lists: list[list[int]], measure_, items: int = 60) -> np.ndarray:
    """ir-measures, fed strictly decreasing integer scores made from the ranks."""
    qrels, run = [], []
    for q, ranks in enumerate(lists):
        relevant = {r for r in ranks if r != MISS}
        qrels += [ir_measures.Qrel(str(q), f"item{r}", 1) for r in relevant]
        qrels += [ir_measures.Qrel(str(q), f"absent{i}", 1) for i in range(ranks.count(MISS))]
        run += [ir_measures.ScoredDoc(str(q), f"item{r}", items - r) for r in range(1, items + 1)]
    found = {m.query_id: m.value for m in ir_measures.iter_calc([measure_], qrels, run)}
    return np.array([found[str(q)] for q in range(len(lists))])


@settings(max_examples=25, deadline=None)
@given(ragged_ranks(), st.sampled_from([1, 5, 10, 20]))
def test_metrics_equal_ir_measures(lists, k):
    ours = measure(make(lists), [f"{name}@{k}" for name in ("recall", "ndcg", "mrr", "map", "hit", "precision")])
    theirs = {"recall": R @ k, "ndcg": nDCG @ k, "mrr": RR @ k, "map": AP @ k, "hit": Success @ k, "precision": P @ k}
    for name, wanted in theirs.items():
        np.testing.assert_allclose(ours[f"{name}@{k}"], reference(lists, wanted), rtol=0, atol=1e-9, err_msg=name)


@settings(max_examples=60, deadline=None)
@given(ragged_ranks(), st.integers(1, 80), st.randoms())
def test_metrics_are_bounded_grow_with_k_where_they_must_and_ignore_order(lists, k, random):
    shuffled = [random.sample(row, len(row)) for row in lists]
    for name in METRICS:
        value = measure(make(lists), [f"{name}@{k}"])[f"{name}@{k}"]
        assert ((value >= 0) & (value <= 1)).all()
        np.testing.assert_allclose(value, measure(make(shuffled), [f"{name}@{k}"])[f"{name}@{k}"], atol=1e-12)
        if name in {"recall", "mrr", "map", "hit"}:
            assert (measure(make(lists), [f"{name}@{k + 1}"])[f"{name}@{k + 1}"] >= value - 1e-12).all()


@settings(max_examples=40, deadline=None)
@given(ragged_ranks(), st.integers(1, 70))
def test_a_perfect_ranking_scores_one_and_a_missed_one_zero(lists, k):
    perfect = make([list(range(1, len(row) + 1)) for row in lists])
    missed = make([[MISS] * len(row) for row in lists])
    for name in METRICS:
        assert (measure(missed, [f"{name}@{k}"])[f"{name}@{k}"] == 0).all()
    for name in ("ndcg", "mrr", "hit"):
        np.testing.assert_allclose(measure(perfect, [f"{name}@{k}"])[f"{name}@{k}"], 1.0)
    full = measure(perfect, ["recall@100", "map@100"])
    assert (full["recall@100"] == 1).all()
    np.testing.assert_allclose(full["map@100"], 1.0)


def test_one_worked_example():
    got = measure(make([[3, 1, 12, MISS]]), ["recall@10", "precision@10", "hit@10", "mrr@10", "map@10", "ndcg@10", "ndcg@2"])
    assert got["recall@10"] == 2 / 4
    assert got["precision@10"] == 2 / 10
    assert got["hit@10"] == 1
    assert got["mrr@10"] == 1
    assert got["map@10"][0] == pytest.approx((1 / 1 + 2 / 3) / 4)
    ideal = 1 + 1 / np.log2(3) + 1 / 2 + 1 / np.log2(5)
    assert got["ndcg@10"][0] == pytest.approx((1 + 1 / 2) / ideal)
    assert got["ndcg@2"][0] == pytest.approx(1 / (1 + 1 / np.log2(3)))


def test_select_keeps_ranks_and_drops_empty_queries():
    ranks = make([[4, 2], [7], [1, 9, 3]])
    kept, queries = ranks.select(np.array([True, False, False, True, False, True]))
    assert kept.values.tolist() == [4, 1, 3]
    assert kept.offsets.tolist() == [0, 1, 3]
    assert queries.tolist() == [0, 2]
    taken = ranks.take(np.array([0, 2]))
    assert taken.values.tolist() == [4, 2, 1, 9, 3]
    assert taken.offsets.tolist() == [0, 2, 5]


def test_no_queries_give_no_values():
    empty = make([])
    assert all(len(v) == 0 for v in measure(empty, [f"{m}@5" for m in METRICS]).values())
    assert len(empty.select(np.zeros(0, bool))[0]) == 0


@pytest.mark.parametrize("name", ["ndcg", "ndcg@0", "ndgc@10", "recall@-1", "recall@1.5"])
def test_unknown_names_are_refused(name):
    with pytest.raises(ValueError, match="is not a metric"):
        measure(make([[1]]), [name])


def test_a_query_without_a_relevant_item_is_refused():
    with pytest.raises(ValueError, match="query 1 has no relevant item"):
        make([[1], [], [2]])
    with pytest.raises(ValueError, match="start at 1"):
        make([[0]])


def test_coverage_is_the_share_of_items_shown():
    assert coverage(np.array([True, False, True, True])) == 0.75
