from __future__ import annotations

import numpy as np
import pytest

from embedkit.errors import UsageError
from embedkit_itemrec.baselines import Ease, HistoryAndGroup, ItemKnn, Markov, Popularity, RepeatLast, transitions
from embedkit_itemrec.interactions import Interactions

# user 0: 0 1 2 | 3, user 1: 0 1 | 2, user 2: 1 2 2 | 4, user 3: | 1; item 4 is cold, item 5 is nobody's
ROWS = [
    (0, 0, 0), (0, 1, 0), (0, 2, 0), (0, 3, 2),
    (1, 0, 0), (1, 1, 0), (1, 2, 2),
    (2, 1, 0), (2, 2, 0), (2, 2, 0), (2, 4, 2),
    (3, 1, 2),
]  # fmt: skip


@pytest.fixture
def data(make_store):
    store = make_store(ROWS, 6)
    return Interactions.of(store, "events", "items"), store.queries("events", "items", "test")


def ranked(scores) -> list[list[int]]:
    return np.argsort(-scores.numpy(), axis=1, kind="stable").tolist()


def test_interactions_hold_train_events_once(data):
    found, queries = data
    assert found.popularity.tolist() == [2, 3, 3, 0, 0, 0]
    assert len(found.train) == 8
    values, offsets = found.histories(queries, 0, 4)
    assert values.tolist() == [0, 1, 2, 0, 1, 1, 2, 2]
    assert offsets.tolist() == [0, 3, 5, 8, 8]
    assert found.history_matrix(queries, 2, 3).toarray().tolist() == [[0, 1, 2, 0, 0, 0]]


def test_popularity_is_equal_for_all_queries(data):
    scores = Popularity(data[0]).score(data[1], 0, 4)
    assert scores.shape == (4, 6)
    assert (scores == scores[0]).all()
    assert scores[0, 1] == scores[0, 2] > scores[0, 0] > scores[0, 3] == scores[0, 5]


def test_repeat_last_puts_the_last_item_on_top(data):
    scores = RepeatLast(data[0]).score(data[1], 0, 4)
    assert scores.argmax(dim=1).tolist()[:3] == [2, 1, 2]
    assert (scores[3] == Popularity(data[0]).score(data[1], 3, 4)[0]).all()  # no history


def test_markov_counts_what_followed(data):
    before, after = transitions(data[0])
    assert sorted(zip(before.tolist(), after.tolist(), strict=True)) == [(0, 1), (0, 1), (1, 2), (1, 2), (2, 2)]
    scores = Markov(data[0]).score(data[1], 0, 4)
    assert ranked(scores)[1][0] == 2  # after 1
    assert scores[1, 2] == pytest.approx(2 + 3 / 9)
    assert scores[0, 2] == pytest.approx(1 + 3 / 9)  # after 2
    assert scores[3, 1] == pytest.approx(3 / 9)  # no history: popularity


def test_a_transition_leads_from_one_moment_to_the_next(make_store):
    rows = [(0, 0, 0), (0, 1, 0), (0, 2, 0), (0, 3, 0), (1, 4, 0), (1, 0, 2)]
    store = make_store(rows, 5, order=[0, 0, 1, 1, 0, 1])
    before, after = transitions(Interactions.of(store, "events", "items"))
    assert sorted(zip(before.tolist(), after.tolist(), strict=True)) == [(1, 2), (1, 3)]


def test_item_knn_is_the_cosine_of_users(data):
    knn = ItemKnn(data[0], neighbors=6)
    users = np.array([[1, 1, 1, 0, 0, 0], [1, 1, 0, 0, 0, 0], [0, 1, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0]], dtype=float)
    norm = np.linalg.norm(users, axis=0)
    wanted = np.divide(users.T @ users, np.outer(norm, norm), out=np.zeros((6, 6)), where=np.outer(norm, norm) > 0)
    np.testing.assert_allclose(knn.similar.toarray(), wanted)
    scores = knn.score(data[1], 0, 4)
    np.testing.assert_allclose(scores[2], wanted[1] + wanted[2], atol=1e-6)
    few = ItemKnn(data[0], neighbors=1, shrink=1.0).similar.toarray()
    assert (few > 0).sum() == 3
    assert few[1, 1] == pytest.approx(3 / 4)


def test_item_knn_of_items_that_nobody_took(make_store):
    store = make_store([(0, 600, 0), (0, 601, 0), (0, 602, 2)], 1200)  # more than one block, most of them empty
    knn = ItemKnn(Interactions.of(store, "events", "items"), neighbors=2)
    assert sorted(zip(*(x.tolist() for x in knn.similar.nonzero()), strict=True)) == [(600, 600), (600, 601), (601, 600), (601, 601)]


def test_ease_solves_the_constrained_regression(data):
    """The gradient of ``|X - XB|^2 + l2 |B|^2`` is zero off the diagonal, and the diagonal is zero: the optimum, not the formula again."""
    users = np.array([[1, 1, 1], [1, 1, 0], [0, 1, 1]], dtype=float)  # items 3, 4 and 5 have no train event
    ease = Ease(data[0], l2=2.0)
    assert ease.known.tolist() == [0, 1, 2]
    weights = ease.weights
    assert (np.diag(weights) == 0).all()
    slope = users.T @ (users @ weights - users) + 2.0 * weights
    np.testing.assert_allclose(slope[~np.eye(3, dtype=bool)], 0, atol=1e-12)
    inverse = np.linalg.inv(users.T @ users + 2.0 * np.eye(3))
    np.testing.assert_allclose(weights, np.where(np.eye(3, dtype=bool), 0, -inverse / np.diag(inverse)))  # equation 8
    scores = ease.score(data[1], 0, 4)
    np.testing.assert_allclose(scores[2, :3], weights[1] + weights[2], atol=1e-8)  # a repeated item counts once
    assert ranked(scores)[3][:3] == [1, 2, 0]  # no history: popularity


def test_ease_is_refused_for_many_items(data, monkeypatch):
    monkeypatch.setattr(Ease, "MOST", 2)
    with pytest.raises(UsageError, match="3 items have a train event, more than 2; leave it out of baselines"):
        Ease(data[0])


def test_history_and_group_adds_own_and_group_counts(make_store):
    group = [1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 0]
    store = make_store(ROWS, 6, group=group)
    data, queries = Interactions.of(store, "events", "items"), store.queries("events", "items", "test")
    scores = HistoryAndGroup(data, np.array(group), own=2.0).score(queries, 0, 4)
    fall_back = data.popularity / 9
    np.testing.assert_allclose(scores[0], np.array([2 + 2, 2 + 2, 2 + 1, 0, 0, 0]) + fall_back)
    np.testing.assert_allclose(scores[2], np.array([0, 2 + 1, 4 + 2, 0, 0, 0]) + fall_back)
    np.testing.assert_allclose(scores[3], fall_back)  # no history, no group


def test_chunks_do_not_show(data):
    for kind in (Popularity, RepeatLast, Markov, ItemKnn, Ease):
        baseline = kind(data[0])
        whole = baseline.score(data[1], 0, 4)
        np.testing.assert_allclose(whole[1:3], baseline.score(data[1], 1, 3), rtol=1e-15)
