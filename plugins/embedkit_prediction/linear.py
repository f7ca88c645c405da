"""The ``linear`` baseline: logistic or ridge regression over one-hot categories and standardised numbers, through scikit-learn."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from embedkit.data.columns import Column
from embedkit.errors import UsageError
from embedkit.evaluate.metrics import Floats

if TYPE_CHECKING:
    from embedkit.data.codec import FieldStats

STRENGTHS = (0.01, 0.1, 1.0, 10.0)
"""Inverse regularisation that is tried."""


def installed() -> bool:
    """Whether scikit-learn is here."""
    return find_spec("sklearn") is not None


def require() -> None:
    """Raise ``UsageError`` when it is not."""
    if not installed():
        raise UsageError("evaluate: the baseline 'linear' needs scikit-learn: pip install \"embedkit[sklearn]\", or leave it out")


def features(columns: Sequence[tuple[Column, FieldStats]]) -> sp.csr_matrix:
    """Columns of some rows as a sparse matrix.

    A category is one column a code (missing as a column of its own), a list the share of each code among its values, a dense value its
    numbers and whether it is missing. Lists without a vocabulary (text) are left out.
    """
    parts = [part for column, stats in columns if (part := _feature(column, stats)) is not None]
    rows = len(columns[0][0])
    return sp.hstack([sp.csr_matrix((rows, 0)), *parts], format="csr")


def fit(train: sp.csr_matrix, y: Floats, task: str, loss: Callable[[Callable[[sp.csr_matrix], Floats]], float], seed: int) -> Any:
    """The best of some strengths.

    Args:
        train: features.
        y: labels: 0 or 1, classes, or numbers.
        task: of the evaluator.
        loss: what a prediction function loses on the valid rows; less is better.
        seed: of the solver.

    Returns:
        Features → predictions as the evaluator measures them.
    """
    found = [_fit(train, y, task, strength, seed) for strength in STRENGTHS]
    return min(found, key=loss)


def _fit(train: sp.csr_matrix, y: Floats, task: str, strength: float, seed: int) -> Callable[[sp.csr_matrix], Floats]:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression, Ridge

    if task == "regression":
        ridge = Ridge(alpha=1 / strength, solver="lsqr", random_state=seed).fit(train, y)
        return lambda x: np.asarray(ridge.predict(x), dtype=np.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a baseline that is tuned on valid rows may stop early
        model = LogisticRegression(C=strength, max_iter=200).fit(train, y)
    if task == "binary":
        return lambda x: np.asarray(model.predict_proba(x)[:, 1], dtype=np.float64)
    return lambda x: np.asarray(model.predict_proba(x), dtype=np.float64)


def _feature(column: Column, stats: FieldStats) -> Any:
    values, rows = column.values.numpy(), len(column)
    missing = None if column.present is None else ~column.present.numpy()
    if column.offsets is not None:
        if stats.size is None:
            return None
        lengths = np.diff(column.offsets.numpy())
        share = np.repeat(1.0 / np.maximum(lengths, 1), lengths)
        return sp.csr_matrix((share, values, column.offsets.numpy()), shape=(rows, stats.size))
    if stats.size is not None:
        codes = values if missing is None else np.where(missing, stats.size, values)
        return sp.csr_matrix((np.ones(rows), codes, np.arange(rows + 1)), shape=(rows, stats.size + 1))
    gone = np.zeros(rows) if missing is None else missing.astype(np.float64)
    numbers = values.reshape(rows, -1).astype(np.float64) * (1 - gone)[:, None]
    return sp.csr_matrix(np.column_stack([np.nan_to_num(numbers), gone]))
