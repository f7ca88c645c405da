from __future__ import annotations

import math

import numpy as np
import pytest

from embedkit.evaluate import shown


def test_a_rare_item_is_more_bits_of_news():
    bits = shown.self_information(np.array([4, 2, 1, 0]))
    assert bits.tolist() == [1.0, 2.0, 3.0, 3.0]  # the last one counts as one event


def test_gini_is_zero_for_even_exposure_and_near_one_for_a_monopoly():
    assert shown.gini(np.full(10, 7)) == pytest.approx(0)
    assert shown.gini(np.array([0, 0, 0, 9])) == pytest.approx(3 / 4)
    counts = np.array([1, 5, 2])
    wanted = np.abs(counts[:, None] - counts).sum() / (2 * len(counts) * counts.sum())  # the definition by pairs
    assert shown.gini(counts) == pytest.approx(wanted)
    assert math.isnan(shown.gini(np.zeros(3, int)))


def test_popularity_bias_compares_with_what_the_same_users_chose():
    recommended = np.array([10.0, 30.0, np.nan, 100.0])
    history = np.array([5.0, 15.0, 50.0, np.nan])
    assert shown.popularity_bias(recommended, history) == 2.0
    assert math.isnan(shown.popularity_bias(recommended[2:], history[2:]))


def test_means_of_lists_some_of_which_are_empty():
    found = shown.mean_of(np.array([1.0, 2.0, 4.0]), (np.array([0, 2, 1]), np.array([0, 2, 2, 3])))
    assert found[[0, 2]].tolist() == [2.5, 2.0]
    assert math.isnan(found[1])
