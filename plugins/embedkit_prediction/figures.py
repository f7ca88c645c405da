"""Figures of predictions, each as one value a row whose mean over the rows is the figure.

A mean over rows (log loss, accuracy) is that already. For the others (AUC, R², …) the value of row k is ``T + n dT/dw_k``, T being the
figure as a function of row weights w, all 1: the infinitesimal jackknife (Efron 1982, chapter 6; from memory). T does not change when all
weights grow alike, so the derivatives add up to zero and the mean is T exactly, while resampling the values gives T's interval to first
order: for AUC that of DeLong et al. 1988. So one bootstrap serves every figure, and runs can be compared row by row.

``y`` and ``p`` are float64 or int64 [n]. Figures that are not defined for the rows at hand raise ``Undefined``.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from embedkit.evaluate.metrics import Bools, Floats, Ints

_LEAST = 1e-15
"""Probabilities are cut to this before their logarithm is taken."""


class Undefined(Exception):  # noqa: N818 - reads as what it says
    """The rows do not allow a figure; the message says why."""


def binary(y: Floats, p: Floats, bins: int) -> dict[str, Floats]:
    """Figures of probabilities p that y is 1 rather than 0."""
    if not 0 < y.sum() < len(y):
        raise Undefined(f"all {len(y)} rows have the label {int(y[0])}" if len(y) else "there are no rows")
    return {
        "auc": auc(y, p),
        "log_loss": -np.log(np.clip(np.where(y == 1, p, 1 - p), _LEAST, None)),
        "average_precision": average_precision(y, p),
        "calibration": calibration(y, p),
        "calibration_error": calibration_error(y, p, bins),
    }


def multiclass(y: Ints, p: Floats) -> dict[str, Floats]:
    """Figures of class probabilities p [n, C] against classes y."""
    if not len(y):
        raise Undefined("there are no rows")
    guess = p.argmax(axis=1)
    return {
        "accuracy": (guess == y).astype(np.float64),
        "macro_f1": macro_f1(y, guess),
        "log_loss": -np.log(np.clip(p[np.arange(len(y)), y], _LEAST, None)),
    }


def regression(y: Floats, p: Floats) -> dict[str, Floats]:
    """Figures of predicted numbers p against y, in the same units."""
    if not len(y):
        raise Undefined("there are no rows")
    error, spread = np.square(y - p), np.square(y - y.mean())
    if not spread.sum() > 0:
        raise Undefined(f"all {len(y)} rows have the label {y[0]:g}")
    rmse = np.sqrt(error.mean())
    unexplained = error.sum() / spread.sum()
    return {
        "rmse": rmse + (error - rmse**2) / (2 * rmse) if rmse > 0 else np.zeros(len(y)),
        "mae": np.abs(y - p),
        "r2": 1 - unexplained - len(y) * (error - unexplained * spread) / spread.sum(),
    }


def auc(y: Floats, p: Floats) -> Floats:
    """Area under the ROC curve: how often a row with label 1 has the higher score than one with label 0, ties counting half."""
    groups = _Groups(p)
    ones, zeros = groups.sums(y), groups.sums(1 - y)
    below_ones, below_zeros = groups.before(ones), groups.before(zeros)
    beaten = (below_zeros + groups.of(zeros) / 2) / zeros.sum()  # share of the zeros below each row
    beating = 1 - (below_ones + groups.of(ones) / 2) / ones.sum()  # share of the ones above each row
    area = float((beaten * y).sum() / ones.sum())
    share = np.where(y == 1, beaten, beating)
    return area + (share - area) * len(y) / np.where(y == 1, ones.sum(), zeros.sum())


def average_precision(y: Floats, p: Floats) -> Floats:
    """Mean, over the rows with label 1, of the share of ones among the rows with at least their score."""
    groups = _Groups(-p)
    ones, rows = groups.sums(y), groups.sums(np.ones(len(y)))
    hits, seen = np.cumsum(ones), np.cumsum(rows)
    precision = hits / seen
    average = float((ones * precision).sum() / ones.sum())
    # A row counts among those seen by every row with its score or a lower one.
    to_hits, to_seen = (np.cumsum((ones * v)[::-1])[::-1] for v in (1 / seen, precision / seen))
    at = groups.at
    change = y * (precision[at] + to_hits[at] - average) - to_seen[at]
    return average + len(y) * change / ones.sum()


def calibration(y: Floats, p: Floats) -> Floats:
    """Mean prediction divided by mean label: 1 when there are as many ones as predicted."""
    ratio = float(p.mean() / y.mean())
    return ratio + (p - ratio * y) / y.mean()


def calibration_error(y: Floats, p: Floats, bins: int) -> Floats:
    """Expected calibration error: mean over bins of equally many rows, by their size, of |mean prediction - mean label|.

    Equal predictions share a bin. Over few rows a bin this is above zero even for perfect predictions.
    """
    edges = np.unique(np.quantile(p, np.linspace(0, 1, bins + 1)[1:-1]))
    bin_ = np.searchsorted(edges, p, side="right")
    excess = np.bincount(bin_, weights=p - y, minlength=len(edges) + 1)
    return np.sign(excess)[bin_] * (p - y)


def macro_f1(y: Ints, guess: Ints) -> Floats:
    """Mean over classes (those that are true or guessed of some row) of 2 TP / (true + guessed)."""
    size = int(max(y.max(), guess.max())) + 1
    hit = y == guess
    hits = np.bincount(y[hit], minlength=size)
    both = np.bincount(y, minlength=size) + np.bincount(guess, minlength=size)
    there = both > 0
    f1 = np.divide(2.0 * hits, both, out=np.zeros(size), where=there)
    slope = np.divide(1.0, both, out=np.zeros(size), where=there)
    change = 2 * hit * slope[y] - f1[y] * slope[y] - f1[guess] * slope[guess]
    return float(f1[there].mean()) + len(y) * change / there.sum()


class _Groups:
    """Rows by ascending score; rows of one score are a group."""

    def __init__(self, scores: Floats) -> None:
        _, self.at = np.unique(scores, return_inverse=True)
        self._count = int(self.at.max()) + 1

    def sums(self, values: Floats) -> Floats:
        """Sum over each group, [groups]."""
        return np.bincount(self.at, weights=values, minlength=self._count)

    def of(self, sums: Floats) -> Floats:
        """The sum of each row's group, [n]."""
        return sums[self.at]

    def before(self, sums: Floats) -> Floats:
        """The sum over the groups of lower score than each row's, [n]."""
        return (np.cumsum(sums) - sums)[self.at]


Measure = Callable[[npt.NDArray[np.generic], Floats], dict[str, Floats]]
"""Labels and predictions → figures."""

__all__ = ["Bools", "Measure", "Undefined", "binary", "multiclass", "regression"]
