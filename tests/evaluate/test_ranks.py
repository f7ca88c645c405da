from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from embedkit.evaluate.metrics import MISS
from embedkit.evaluate.ranks import full_ranking, top


def ragged(lists: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    values = np.array([x for row in lists for x in row], dtype=np.int64)
    return values, np.concatenate(([0], np.cumsum([len(x) for x in lists]))).astype(np.int64)


def scorer(scores: torch.Tensor):
    return lambda lo, hi: scores[lo:hi].clone()


@st.composite
def problems(draw: st.DrawFn):
    """Scores with few distinct values (many ties), relevant items (some unknown) and seen items."""
    queries, items = draw(st.integers(1, 6)), draw(st.integers(1, 25))
    levels = draw(st.integers(1, 30))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scores = torch.from_numpy(rng.integers(0, levels, (queries, items)).astype(np.float32))
    most = draw(st.integers(1, 4))
    relevant = [rng.permutation(np.arange(-1, items))[: rng.integers(1, most + 1)].tolist() for _ in range(queries)]
    seen = [rng.permutation(items)[: rng.integers(0, items + 1)].tolist() for _ in range(queries)]
    return scores, relevant, seen


@settings(max_examples=60, deadline=None)
@given(problems(), st.integers(1, 8))
def test_what_is_shown_is_added_up_over_chunks(problem, k):
    scores, relevant, seen = problem
    items = scores.shape[1]
    worth = {"price": np.arange(items) + 0.5}
    arguments = {"seen": ragged(seen), "ks": (1, k), "worth": worth, "seed": 7}
    found = full_ranking(scorer(scores), ragged(relevant), items, budget=1, **arguments)
    masked = scores.clone()
    for q, row in enumerate(seen):
        masked[q, row] = -torch.inf
    shown = top(masked, k, seed=7).numpy()
    lists = [[int(i) for i in row if i >= 0] for row in shown]
    assert found.exposure[k].tolist() == [sum(i in row for row in lists) for i in range(items)]
    assert (found.covered[k] == (found.exposure[k] > 0)).all()
    wanted = [np.mean(worth["price"][row]) if row else np.nan for row in lists]
    np.testing.assert_allclose(found.worth["price"][k], wanted)
    np.testing.assert_allclose(found.worth["price"][1], [worth["price"][row[0]] if row else np.nan for row in lists])


@settings(max_examples=150, deadline=None)
@given(problems(), st.booleans(), st.integers(0, 3))
def test_ranks_follow_the_definition(problem, exclude, seed):
    scores, relevant, seen = problem
    items = scores.shape[1]
    found = full_ranking(scorer(scores), ragged(relevant), items, seen=ragged(seen) if exclude else None, ks=(3,), seed=seed)
    at = 0
    for q, row in enumerate(relevant):
        candidates = [j for j in range(items) if not (exclude and j in seen[q])]
        used = []
        for item in row:
            rank, tied = int(found.ranks.values[at]), bool(found.tied[at])
            at += 1
            if item not in candidates:
                assert rank == MISS
                assert not tied
                continue
            higher = sum(bool(scores[q, j] > scores[q, item]) for j in candidates)
            equal = sum(bool(scores[q, j] == scores[q, item]) for j in candidates)
            assert higher < rank <= higher + equal
            assert tied == (equal > 1)
            used.append(rank)
        assert len(set(used)) == len(used)


@settings(max_examples=60, deadline=None)
@given(problems(), st.integers(1, 8))
def test_chunks_do_not_show_and_lists_agree_with_ranks(problem, k):
    scores, relevant, seen = problem
    items = scores.shape[1]
    arguments = {"seen": ragged(seen), "ks": (k,), "seed": 7}
    whole = full_ranking(scorer(scores), ragged(relevant), items, **arguments)
    small = full_ranking(scorer(scores), ragged(relevant), items, budget=1, **arguments)
    np.testing.assert_array_equal(whole.ranks.values, small.ranks.values)
    np.testing.assert_array_equal(whole.covered[k], small.covered[k])
    masked = scores.clone()
    for q, row in enumerate(seen):
        masked[q, row] = -torch.inf
    shown = top(masked, k, seed=7)
    at = 0
    for q, row in enumerate(relevant):
        for item in row:
            rank = int(whole.ranks.values[at])
            at += 1
            if rank <= k:
                assert int(shown[q, rank - 1]) == item
            else:
                assert item < 0 or item not in shown[q].tolist()


def test_ties_are_broken_evenly_and_differently_for_each_query():
    queries, items = 4000, 5
    found = full_ranking(lambda lo, hi: torch.zeros(hi - lo, items), ragged([[2]] * queries), items, seed=1)
    counts = np.bincount(found.ranks.values, minlength=items + 1)[1:]
    assert abs(counts - queries / items).max() < 5 * np.sqrt(queries / items)
    assert found.tied.all()
    again = full_ranking(lambda lo, hi: torch.zeros(hi - lo, items), ragged([[2]] * queries), items, seed=2)
    assert (again.ranks.values != found.ranks.values).mean() > 0.5


def test_two_relevant_items_tied_with_each_other_take_every_pair_of_places():
    queries = 6000
    found = full_ranking(lambda lo, hi: torch.zeros(hi - lo, 3), ragged([[0, 1]] * queries), 3, seed=0)
    pairs = found.ranks.values.reshape(-1, 2)
    counts = np.array([((pairs == p).all(axis=1)).sum() for p in [(1, 2), (1, 3), (2, 1), (2, 3), (3, 1), (3, 2)]])
    assert counts.sum() == queries
    assert abs(counts - 1000).max() < 160


def test_lists_cover_all_tied_items_in_the_end():
    found = full_ranking(lambda lo, hi: torch.zeros(hi - lo, 50), ragged([[0]] * 300), 50, ks=(1, 5), seed=0)
    assert found.covered[5].all()
    assert 40 < found.covered[1].sum() <= 50


def test_fewer_candidates_than_k():
    scores = torch.tensor([[1.0, 2.0, -torch.inf]])
    assert top(scores, 5).tolist() == [[1, 0, -1, -1, -1]]


def test_nan_scores_are_refused():
    with pytest.raises(ValueError, match="not a number"):
        full_ranking(lambda lo, hi: torch.full((hi - lo, 3), torch.nan), ragged([[1]]), 3)


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match="want scores of shape"):
        full_ranking(lambda lo, hi: torch.zeros(hi - lo, 4), ragged([[1]]), 3)


def test_a_chunk_keeps_to_its_budget():
    sizes = []

    def score(lo: int, hi: int) -> torch.Tensor:
        sizes.append(hi - lo)
        return torch.rand(hi - lo, 1000)

    full_ranking(score, ragged([[1]] * 100), 1000, budget=32 * 1000 * 30)
    assert max(sizes) == 30
    assert sum(sizes) == 100
