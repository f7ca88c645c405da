from __future__ import annotations

import numpy as np
import pytest

from embedkit.evaluate.estimate import difference, interval


def test_the_interval_covers_the_mean_about_95_times_of_100():
    rng = np.random.default_rng(1)
    values = rng.binomial(1, 0.3, size=(150, 200)).astype(float)  # each column is one experiment with 150 queries
    found = interval(values, seed=0, resamples=600)
    covered = ((found.low <= 0.3) & (found.high >= 0.3)).mean()
    assert 0.90 <= covered <= 0.99
    np.testing.assert_allclose(found.value, values.mean(axis=0))


def test_the_width_is_that_of_the_normal_approximation():
    values = np.random.default_rng(2).normal(size=(4000, 1))
    found = interval(values, seed=3)
    assert (found.high - found.low)[0] == pytest.approx(2 * 1.96 / np.sqrt(4000), rel=0.08)


def test_equal_seeds_give_equal_intervals_and_chunks_do_not_show(monkeypatch):
    values = np.random.default_rng(0).random((50, 3))
    first = interval(values, seed=5, resamples=100)
    monkeypatch.setattr("embedkit.evaluate.estimate._CHUNK_BYTES", 8 * 50 * 7)
    second = interval(values, seed=5, resamples=100)
    np.testing.assert_array_equal(first.low, second.low)
    assert (interval(values, seed=6, resamples=100).low != first.low).any()


def test_seeds_that_disagree_widen_the_interval():
    rng = np.random.default_rng(0)
    queries = rng.random((1000, 1))
    same = np.stack([queries] * 3)
    apart = same + np.array([-0.1, 0.0, 0.1])[:, None, None]
    narrow, wide = interval(same, seed=0), interval(apart, seed=0)
    np.testing.assert_allclose(narrow.value, wide.value)
    assert (wide.high - wide.low)[0] > 3 * (narrow.high - narrow.low)[0]
    single = interval(queries, seed=0)
    assert narrow.low[0] == pytest.approx(single.low[0])


def test_pairing_finds_what_separate_intervals_miss():
    rng = np.random.default_rng(0)
    first = rng.random((500, 1))
    second = first + 0.01 + rng.normal(scale=0.01, size=(500, 1))
    alone = interval(first, seed=0), interval(second, seed=0)
    assert alone[0].high > alone[1].low  # the separate intervals overlap
    paired = difference(first, second, seed=0)
    assert paired.low[0] > 0.008
    assert paired.high[0] < 0.012
    assert paired.p[0] < 0.001 + 1 / 1000


def test_no_difference_is_not_significant():
    rng = np.random.default_rng(4)
    first = rng.random((3, 400, 1))
    same = difference(first, first, seed=0)
    assert same.value[0] == 0
    assert same.low[0] <= 0 <= same.high[0]
    noise = difference(rng.random((400, 1)), rng.random((400, 1)), seed=0)
    assert noise.low[0] < 0 < noise.high[0]
    assert noise.p[0] > 0.05


def test_one_query_has_no_interval():
    assert np.isnan(interval(np.ones((1, 2)), seed=0).low).all()
    assert np.isnan(difference(np.ones((1, 2)), np.ones((1, 2)), seed=0).p).all()


def test_arms_of_different_queries_are_refused():
    with pytest.raises(ValueError, match="equal queries"):
        difference(np.ones((5, 1)), np.ones((6, 1)), seed=0)


def test_queries_of_one_user_are_drawn_together():
    rng = np.random.default_rng(0)
    user_means = rng.random((100, 1))
    values = np.repeat(user_means, 10, axis=0)
    apart, together = interval(values, seed=0), interval(values, seed=0, users=np.repeat(np.arange(100), 10))
    np.testing.assert_allclose(apart.value, together.value)
    assert (together.high - together.low)[0] == pytest.approx(np.sqrt(10) * (apart.high - apart.low)[0], rel=0.15)
    single = interval(user_means, seed=0)
    assert together.low[0] == pytest.approx(single.low[0])
    assert np.isnan(interval(values, seed=0, users=np.zeros(1000, int)).low[0])
