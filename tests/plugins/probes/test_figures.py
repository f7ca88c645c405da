from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics

from embedkit_probes.figures import classification, intervals, regression


def resampled(rng, n, count=5):
    """Rows drawn with replacement, and the weights that say so."""
    rows = rng.integers(0, n, (count, n))
    return rows, np.stack([np.bincount(r, minlength=n) for r in rows]).astype(np.float64)


@pytest.mark.parametrize("classes", [2, 4])
def test_weights_stand_for_repeated_rows(classes):
    rng = np.random.default_rng(0)
    y = rng.integers(0, classes, 200)
    scores = np.round(rng.random((200, classes)) + np.eye(classes)[y] * 0.3, 2)  # with ties
    found = classification(y, scores)
    rows, weights = resampled(rng, 200)
    for i, drawn in enumerate(rows):
        true, said = y[drawn], scores[drawn].argmax(axis=1)
        area = [metrics.roc_auc_score(true == c, scores[drawn][:, c]) for c in ([1] if classes == 2 else range(classes))]
        assert found["accuracy"](weights)[i] == pytest.approx(metrics.accuracy_score(true, said))
        assert found["macro_f1"](weights)[i] == pytest.approx(metrics.f1_score(true, said, average="macro"))
        assert found["auc"](weights)[i] == pytest.approx(np.mean(area))


def test_figures_of_numbers():
    rng = np.random.default_rng(1)
    y = 1e6 + rng.normal(size=100)
    guess = y + 0.3 * rng.normal(size=100)
    found = regression(y, guess)
    rows, weights = resampled(rng, 100)
    for i, drawn in enumerate(rows):
        assert found["rmse"](weights)[i] == pytest.approx(metrics.root_mean_squared_error(y[drawn], guess[drawn]))
        assert found["r2"](weights)[i] == pytest.approx(metrics.r2_score(y[drawn], guess[drawn]))


def test_intervals_are_those_of_a_mean():
    rng = np.random.default_rng(2)
    y = (rng.random(400) < 0.3).astype(np.int64)
    scores = np.stack([np.ones(400), np.zeros(400)], axis=1)
    low, high = intervals({"model": classification(y, scores)}, 400, seed=0)["model", "accuracy"]
    half = 1.96 * np.sqrt(0.21 / 400)
    assert low == pytest.approx(1 - y.mean() - half, abs=0.01)
    assert high == pytest.approx(1 - y.mean() + half, abs=0.01)
    assert intervals({"model": classification(y[:1], scores[:1])}, 1, seed=0) == {}


def test_one_sided_labels_have_no_area():
    found = classification(np.zeros(5, np.int64), np.tile([0.6, 0.4], (5, 1)))
    assert np.isnan(found["auc"](np.ones((1, 5)))[0])
    assert found["accuracy"](np.ones((1, 5)))[0] == 1
