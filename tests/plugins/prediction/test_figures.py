from __future__ import annotations

import numpy as np
import pytest

from embedkit.evaluate.estimate import interval
from embedkit_prediction import figures

metrics = pytest.importorskip("sklearn.metrics")


def scores(n=400, seed=0, *, ties=True):
    rng = np.random.default_rng(seed)
    y = (rng.random(n) < 0.3).astype(float)
    p = 1 / (1 + np.exp(-(1.5 * y - 1 + rng.normal(size=n))))
    return y, np.round(p, 1).clip(0.05, 0.95) if ties else p


@pytest.mark.parametrize("ties", [True, False])
def test_binary_figures_are_those_of_scikit_learn(ties):
    y, p = scores(ties=ties)
    found = {name: values.mean() for name, values in figures.binary(y, p, 15).items()}
    assert found["auc"] == pytest.approx(metrics.roc_auc_score(y, p), abs=1e-12)
    assert found["average_precision"] == pytest.approx(metrics.average_precision_score(y, p), abs=1e-12)
    assert found["log_loss"] == pytest.approx(metrics.log_loss(y, p), abs=1e-12)
    assert found["calibration"] == pytest.approx(p.mean() / y.mean(), abs=1e-12)


def test_multiclass_figures_are_those_of_scikit_learn():
    rng = np.random.default_rng(1)
    y = rng.integers(0, 5, 300)
    y[y == 3] = 2  # a class that is never true, but sometimes guessed
    p = rng.dirichlet(np.ones(6), 300) + 0.4 * np.eye(6)[y]
    p /= p.sum(1, keepdims=True)
    p[:, 5] = 0  # a class that is neither
    p /= p.sum(1, keepdims=True)
    found = {name: values.mean() for name, values in figures.multiclass(y, p).items()}
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(y, p.argmax(1)), abs=1e-12)
    assert found["macro_f1"] == pytest.approx(metrics.f1_score(y, p.argmax(1), average="macro"), abs=1e-12)
    assert found["log_loss"] == pytest.approx(metrics.log_loss(y, p, labels=range(6)), abs=1e-12)


def test_regression_figures_are_those_of_scikit_learn():
    rng = np.random.default_rng(2)
    y = rng.normal(3, 2, 200)
    p = y + rng.normal(0.2, 1, 200)
    found = {name: values.mean() for name, values in figures.regression(y, p).items()}
    assert found["rmse"] == pytest.approx(metrics.root_mean_squared_error(y, p), abs=1e-12)
    assert found["mae"] == pytest.approx(metrics.mean_absolute_error(y, p), abs=1e-12)
    assert found["r2"] == pytest.approx(metrics.r2_score(y, p), abs=1e-12)


def test_calibration_error_by_hand():
    p = np.array([0.1, 0.1, 0.3, 0.7, 0.8, 0.9])
    y = np.array([0.0, 1.0, 0.0, 1.0, 1.0, 0.0])
    two = abs(p[:3].mean() - y[:3].mean()) / 2 + abs(p[3:].mean() - y[3:].mean()) / 2
    assert figures.calibration_error(y, p, 2).mean() == pytest.approx(two)
    assert figures.calibration_error(y, p, 1).mean() == pytest.approx(abs(p.mean() - y.mean()))


@pytest.mark.parametrize("name", ["auc", "average_precision", "calibration"])
@pytest.mark.parametrize("row", [0, 7, 150])
def test_a_value_is_the_slope_in_the_weight_of_its_row(name, row):
    """Repeating all rows 1,000 times and one row once more moves the figure by its slope."""
    y, p = scores(200)
    values = figures.binary(y, p, 5)[name]
    many = np.repeat(np.arange(200), 1000)
    before = figures.binary(y[many], p[many], 5)[name].mean()
    more = np.append(many, row)
    after = figures.binary(y[more], p[more], 5)[name].mean()
    assert (after - before) * len(more) == pytest.approx(values[row] - values.mean(), rel=0.02, abs=1e-3)


def test_the_slopes_of_macro_f1_and_r2():
    rng = np.random.default_rng(3)
    y, guess = rng.integers(0, 4, 60), rng.integers(0, 4, 60)
    truth, number = rng.normal(size=60), rng.normal(size=60)
    many = np.repeat(np.arange(60), 2000)
    for row in (0, 13):
        more = np.append(many, row)
        for of in (
            lambda r: figures.macro_f1(y[r], guess[r]),
            lambda r: figures.regression(truth[r], number[r])["r2"],
            lambda r: figures.regression(truth[r], number[r])["rmse"],
        ):
            values = of(np.arange(60))
            slope = (of(more).mean() - of(many).mean()) * len(more)
            assert slope == pytest.approx(values[row] - values.mean(), rel=0.02, abs=1e-3)


def test_intervals_are_those_of_resampling_the_figure_itself():
    y, p = scores(500, 4, ties=False)
    found = figures.binary(y, p, 10)
    rng = np.random.default_rng(0)
    draws = [rng.integers(0, 500, 500) for _ in range(600)]
    for name in ("auc", "average_precision", "calibration"):
        again = [figures.binary(y[d], p[d], 10)[name].mean() for d in draws]
        ours = interval(found[name][:, None], seed=0)
        width = float(ours.high[0] - ours.low[0])
        assert width == pytest.approx(np.subtract(*np.percentile(again, (97.5, 2.5))), rel=0.12)


def test_rows_of_one_label_have_no_figure():
    with pytest.raises(figures.Undefined, match="all 3 rows have the label 1"):
        figures.binary(np.ones(3), np.full(3, 0.5), 5)
    with pytest.raises(figures.Undefined, match="all 3 rows have the label 2"):
        figures.regression(np.full(3, 2.0), np.arange(3.0))
