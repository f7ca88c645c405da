from __future__ import annotations

import numpy as np

from embedkit.evaluate import slices


def test_each_popularity_slice_has_about_a_third_of_the_events():
    frequencies = np.array([60, 20, 20, 10, 10, 10, 10, 10, 10, 10, 5, 3, 1, 1, 0, 0])
    targets = np.arange(-1, len(frequencies))
    found = slices.popularity(frequencies, targets)
    named = {name: (targets[mask]).tolist() for name, mask in found.items()}
    assert named == {"head": [0], "mid": [1, 2, 3, 4, 5, 6, 7, 8, 9], "tail": [10, 11, 12, 13]}


def test_items_of_equal_frequency_stay_together():
    found = slices.popularity(np.full(9, 4), np.arange(9))
    assert found["head"].all()
    assert not found["mid"].any()
    assert not found["tail"].any()


def test_cold_items_are_those_without_train_events_and_those_not_in_the_table():
    found = slices.cold(np.array([3, 0, 1]), np.array([0, 1, 2, -1]))
    assert found["yes"].tolist() == [False, True, False, True]
    assert (found["no"] == ~found["yes"]).all()


def test_history_buckets():
    lengths = np.array([0, 1, 4, 5, 19, 20, 99, 100, 5000])
    found = slices.history(lengths, np.arange(10))
    assert {name: np.flatnonzero(mask).tolist() for name, mask in found.items()} == {
        "0": [0], "1-4": [1, 2], "5-19": [3, 4], "20-99": [5, 6], "100+": [7, 8],
    }  # fmt: skip


def test_history_repeats_for_every_relevant_item():
    found = slices.history(np.array([0, 7]), np.array([0, 2, 5]))
    assert found["0"].tolist() == [True, True, False, False, False]


def test_no_train_events_at_all():
    found = slices.popularity(np.zeros(3, int), np.array([0, 1]))
    assert not any(mask.any() for mask in found.values())
    assert slices.cold(np.zeros(0, int), np.array([-1]))["yes"].all()


def test_tail_targets_were_seen_but_seldom():
    found = slices.tail(np.array([0, 1, 5, 6, 90]), np.array([-1, 0, 1, 2, 3, 4]))
    assert {name: np.flatnonzero(mask).tolist() for name, mask in found.items()} == {"1-5": [2, 3]}
    assert slices.tail(np.array([0, 1, 2]), np.array([1, 2]), 1)["1-1"].tolist() == [True, False]


def test_short_histories():
    found = slices.short(np.array([0, 2, 3]), np.array([0, 1, 3, 4]), 2)
    assert found["0-2"].tolist() == [True, True, True, False]
