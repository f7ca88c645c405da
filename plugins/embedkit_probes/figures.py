"""Figures of predictions as functions of row weights, so that a bootstrap interval is the figure under resampled weights.

Accuracy is a mean over rows, but macro F1, AUC, RMSE and R² are not; all take weights [R, n], one resample a row, and give [R].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from embedkit.evaluate.estimate import RESAMPLES
from embedkit.evaluate.metrics import Floats, Ints
from embedkit_probes.task import Labels

Figure = Callable[[Floats], Floats]
_CHUNK_BYTES = 64 * 2**20


def classification(y: Ints, scores: Floats) -> dict[str, Figure]:
    """Accuracy, macro F1 over the classes that stand in the labels or predictions, and AUC: of the second class of two, or the mean of
    one class against the others.

    Args:
        y: classes [n], -1 for one that no train row has.
        scores: [n, classes].
    """
    guess = scores.argmax(axis=1)
    correct = (guess == y).astype(np.float64)
    classes = scores.shape[1]
    positives = [1] if classes == 2 else range(classes)
    areas = [area for c in positives if (area := _Area.of(y == c, scores[:, c])) is not None]

    def auc(weights: Floats) -> Floats:
        if not areas:
            return np.full(len(weights), np.nan)
        return np.mean([area(weights) for area in areas], axis=0)

    return {"accuracy": lambda w: w @ correct / w.sum(axis=1), "macro_f1": _macro_f1(y, guess, classes), "auc": auc}


def regression(y: Floats, guess: Floats) -> dict[str, Figure]:
    """RMSE in the label's unit, and R²."""
    centred = y - y.mean()  # sums of squares about an origin far from the data would lose what they measure
    squares = np.stack([np.square(y - guess), centred, np.square(centred)], axis=1)

    def r2(weights: Floats) -> Floats:
        error, total, square = (weights @ squares).T
        spread = square - np.square(total) / weights.sum(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(spread > 0, 1.0 - error / spread, np.nan)

    return {"rmse": lambda w: np.sqrt(w @ squares[:, 0] / w.sum(axis=1)), "r2": r2}


def per_row(y: Labels, prediction: Floats) -> dict[str, Floats]:
    """What can be compared row by row: ``accuracy`` (0 or 1), or ``squared_error``."""
    if prediction.ndim == 2:
        return {"accuracy": (prediction.argmax(axis=1) == y).astype(np.float64)}
    return {"squared_error": np.square(y - prediction)}


def intervals(models: Mapping[str, Mapping[str, Figure]], rows: int, seed: int) -> dict[tuple[str, str], tuple[float, float]]:
    """95% bootstrap intervals, (model, figure) → (low, high); all models on the same resampled rows. Nothing for a single row."""
    if rows < 2:
        return {}
    rng = np.random.default_rng(seed)
    drawn: dict[tuple[str, str], list[Floats]] = {(m, name): [] for m, figures in models.items() for name in figures}
    size = max(1, _CHUNK_BYTES // (8 * rows))
    for at in range(0, RESAMPLES, size):
        count = min(size, RESAMPLES - at)
        index = rng.integers(0, rows, size=(count, rows)) + np.arange(count)[:, None] * rows
        weights = np.bincount(index.ravel(), minlength=count * rows).reshape(count, rows).astype(np.float64)
        for model, figures in models.items():
            for name, figure in figures.items():
                drawn[model, name].append(figure(weights))
    found = {}
    for key, parts in drawn.items():
        values = np.concatenate(parts)
        values = values[np.isfinite(values)]
        if len(values):
            low, high = np.percentile(values, (2.5, 97.5))
            found[key] = (float(low), float(high))
    return found


def _macro_f1(y: Ints, guess: Ints, classes: int) -> Figure:
    rows = np.arange(len(y))
    there = y >= 0

    def indicator(kept: np.ndarray, of: Ints) -> sp.csr_matrix:
        return sp.csr_matrix((np.ones(int(kept.sum())), (rows[kept], of[kept])), shape=(len(y), classes))

    hit, true, said = indicator(there & (guess == y), y), indicator(there, y), indicator(np.ones(len(y), bool), guess)

    def figure(weights: Floats) -> Floats:
        both, either = weights @ hit, weights @ true + weights @ said
        seen = either > 0
        f1 = np.where(seen, 2 * both / np.where(seen, either, 1.0), 0.0)
        return f1.sum(axis=1) / seen.sum(axis=1).clip(min=1)

    return figure


@dataclass(frozen=True, eq=False)
class _Area:
    """Area under the ROC curve with ties counting half: rows sorted by score, and where each group of equal scores begins."""

    order: Ints
    starts: Ints
    positive: Floats

    @classmethod
    def of(cls, positive: np.ndarray, score: Floats) -> _Area | None:
        """None where one of the two sides has no row."""
        if positive.all() or not positive.any():
            return None
        order = np.argsort(score, kind="stable")
        ordered = score[order]
        starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
        return cls(order, starts, positive[order].astype(np.float64))

    def __call__(self, weights: Floats) -> Floats:
        ordered = weights[:, self.order]
        up = np.add.reduceat(ordered * self.positive, self.starts, axis=1)
        down = np.add.reduceat(ordered * (1.0 - self.positive), self.starts, axis=1)
        below = np.cumsum(down, axis=1) - down
        pairs = up.sum(axis=1) * down.sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(pairs > 0, (up * (below + 0.5 * down)).sum(axis=1) / pairs, np.nan)
