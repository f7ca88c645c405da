"""What reads a label out of vectors. Scikit-learn is imported when a probe runs.

A learner fits once for each strength to choose from and predicts; predictions are float64 [n, classes] (larger is likelier) for classes,
[n] for numbers.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp

from embedkit.errors import UsageError
from embedkit.evaluate.metrics import Floats
from embedkit_probes.raw import Matrix, TreeMatrix
from embedkit_probes.task import Labels

NEEDED = 'probes need scikit-learn, which is not installed: pip install "embedkit[sklearn]"'


def require_sklearn() -> None:
    """Raise ``UsageError`` with what to install where scikit-learn is missing."""
    try:
        import sklearn  # noqa: F401
    except ImportError:
        raise UsageError(NEEDED) from None


class Learner(ABC):
    """Args: strengths: what is chosen from, the most cautious first; classes: their number, 0 for a regression."""

    def __init__(self, strengths: Sequence[float], classes: int) -> None:
        self.strengths = list(strengths)
        self.classes = classes

    @abstractmethod
    def path(self, x: Any, y: Labels, asked: Any, strengths: Sequence[float]) -> Iterator[Floats]:
        """Fit on (x, y) with each strength; yield the predictions for ``asked``."""


class Linear(Learner):
    """Logistic regression, or ridge regression, on columns standardised by the rows that it is fitted on (sparse ones as they are)."""

    def path(self, x: Matrix, y: Labels, asked: Matrix, strengths: Sequence[float]) -> Iterator[Floats]:
        """See ``Learner.path``; a strength is a penalty relative to the mean loss."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression, Ridge

        x, asked = _standardised(x, asked)
        for penalty in strengths:
            if not self.classes:
                yield np.asarray(Ridge(alpha=penalty * len(y), random_state=0).fit(x, y).predict(asked))
                continue
            model = LogisticRegression(C=1.0 / (penalty * len(y)), max_iter=300, random_state=0)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                model.fit(x, y)
            yield _all_classes(model.predict_proba(asked), model.classes_, self.classes)


class Neighbors(Learner):
    """The vote, or the mean, of the nearest rows by Euclidean distance; for vectors of unit length that is cosine's order."""

    def path(self, x: Matrix, y: Labels, asked: Matrix, strengths: Sequence[float]) -> Iterator[Floats]:
        """See ``Learner.path``; a strength is a number of neighbours."""
        from sklearn.neighbors import NearestNeighbors

        most = min(int(max(strengths)), len(y))
        model = NearestNeighbors(n_neighbors=most, algorithm="brute").fit(x)
        near = y[model.kneighbors(asked, return_distance=False)]
        for k in strengths:
            mine = near[:, : int(k)]
            if not self.classes:
                yield mine.mean(axis=1)
                continue
            votes = np.zeros((len(mine), self.classes))
            np.add.at(votes, (np.arange(len(mine))[:, None], mine), 1.0 / mine.shape[1])
            yield votes


class Trees(Learner):
    """Histogram gradient boosting; the rounds are chosen, each choice being the beginning of the longest."""

    def __init__(self, strengths: Sequence[float], classes: int, learning_rate: float = 0.1) -> None:
        super().__init__(strengths, classes)
        self.learning_rate = learning_rate

    def path(self, x: Any, y: Labels, asked: Any, strengths: Sequence[float]) -> Iterator[Floats]:
        """See ``Learner.path``; a strength is a number of rounds."""
        from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

        kind = HistGradientBoostingClassifier if self.classes else HistGradientBoostingRegressor
        categorical = None
        if isinstance(x, TreeMatrix):
            x, asked, categorical = x.values, asked.values, x.categorical
        model = kind(
            max_iter=int(max(strengths)),
            learning_rate=self.learning_rate,
            categorical_features=categorical,
            early_stopping=False,
            random_state=0,
        ).fit(x, y)
        wanted, found = {int(s) for s in strengths}, {}
        staged = model.staged_predict_proba(asked) if self.classes else model.staged_predict(asked)
        for number, prediction in enumerate(staged, start=1):
            if number in wanted:
                found[number] = _all_classes(prediction, model.classes_, self.classes) if self.classes else prediction
        for s in strengths:
            yield found[min(int(s), max(found))]


def _standardised(x: Matrix, asked: Matrix) -> tuple[Matrix, Matrix]:
    if sp.issparse(x):
        return x, asked
    mean, deviation = x.mean(axis=0, dtype=np.float64), x.std(axis=0, dtype=np.float64)
    deviation = np.where(deviation > 1e-12, deviation, 1.0)
    return (x - mean) / deviation, (asked - mean) / deviation


def _all_classes(found: Floats, classes: Any, count: int) -> Floats:
    """A column for each class: a part of the train rows may lack some."""
    if len(classes) == count:
        return np.asarray(found)
    out = np.zeros((len(found), count))
    out[:, np.asarray(classes, dtype=np.int64)] = found
    return out
