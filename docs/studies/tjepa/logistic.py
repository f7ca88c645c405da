"""Logistic regression at several strengths, fast enough for thousands of wide rows on one core.

The objective is scikit-learn's: ``C * sum of log losses + |weights|^2 / 2``, intercepts free. The way there is not: columns of vectors that
an encoder made are nearly dependent, which costs plain L-BFGS hundreds of passes over the rows and leaves it short of the minimum even so.
Here each strength starts from the minimum of the stronger one before it, in coordinates in which the curvature found there is about the
identity, and the rows are read in float32.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import cholesky, solve_triangular
from scipy.optimize import minimize
from scipy.special import expit, softmax

Single = npt.NDArray[np.float32]
Double = npt.NDArray[np.float64]
STEPS = 200
CLOSE = 1e-5
"""A fit ends where no number of the gradient, in the coordinates that are searched, is larger."""
_BLOCK = 4096


@dataclass(frozen=True, eq=False)
class Logistic:
    """A fitted model.

    Attributes:
        weights: [P, K]; K is 1 for two classes.
        intercepts: [K].
        steps: passes that the fit took.
    """

    weights: Single
    intercepts: Single
    steps: int

    def predict(self, x: Single) -> npt.NDArray[np.int64]:
        """Rows [N, P] → the more likely class of each, [N]."""
        logits = x @ self.weights + self.intercepts
        found: npt.NDArray[np.int64] = logits.argmax(1) if logits.shape[1] > 1 else (logits[:, 0] > 0).astype(np.int64)
        return found


def path(x: Single, y: npt.NDArray[np.int64], strengths: Sequence[float]) -> Iterator[tuple[float, Logistic]]:
    """One fit for each C, from the smallest C (the strongest penalty) up.

    Args:
        x: standardised rows, float32 [N, P].
        y: classes from 0, [N].
        strengths: values of C.
    """
    problem = _Problem(x, y)
    weights, intercepts = np.zeros((x.shape[1], problem.outputs), np.float32), np.zeros(problem.outputs, np.float32)
    for c in sorted(strengths):
        found = problem.fit(1.0 / (c * len(x)), weights, intercepts)
        weights, intercepts = found.weights, found.intercepts
        yield c, found


class _Problem:
    """Rows and what they are told from."""

    def __init__(self, x: Single, y: npt.NDArray[np.int64]) -> None:
        classes = int(y.max()) + 1
        self.x = x
        self.outputs = classes if classes > 2 else 1
        self.target = np.eye(classes, dtype=np.float32)[y] if classes > 2 else y.astype(np.float32)[:, None]

    def fit(self, penalty: float, weights: Single, intercepts: Single) -> Logistic:
        """Minimise ``mean log loss + penalty * |weights|^2 / 2`` from where a stronger penalty ended."""
        root = self._root(penalty, weights, intercepts)
        shape = weights.shape

        def split(v: Double) -> tuple[Double, Double]:
            return v[: -shape[1]].reshape(shape), v[-shape[1] :]

        def loss(v: Double) -> tuple[float, Double]:
            inner, b = split(v)
            w = solve_triangular(root, inner, trans="T", lower=True, check_finite=False)
            value, error = self._loss(w.astype(np.float32), b.astype(np.float32))
            slope = (self.x.T @ error).astype(np.float64) + penalty * w
            down = solve_triangular(root, slope, lower=True, check_finite=False)
            return value + penalty / 2 * float(np.square(w).sum()), np.concatenate([down.ravel(), error.sum(0, dtype=np.float64)])

        start = np.concatenate([(root.T @ weights.astype(np.float64)).ravel(), intercepts.astype(np.float64)])
        done = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": STEPS, "gtol": CLOSE, "ftol": 1e-6, "maxcor": 20})
        inner, b = split(done.x)
        w = solve_triangular(root, inner, trans="T", lower=True, check_finite=False)
        return Logistic(w.astype(np.float32), b.astype(np.float32), int(done.nfev))

    def _loss(self, weights: Single, intercepts: Single) -> tuple[float, Single]:
        """The mean loss, and its slope by the logits [N, K]."""
        logits = self.x @ weights + intercepts
        if self.outputs == 1:
            value = np.logaddexp(0.0, logits) - self.target * logits
            told = expit(logits)
        else:
            highest = logits.max(1, keepdims=True)
            value = np.log(np.exp(logits - highest).sum(1)) + highest[:, 0] - (logits * self.target).sum(1)
            told = softmax(logits, 1)
        return float(value.mean(dtype=np.float64)), (told - self.target) / np.float32(len(self.x))

    def _root(self, penalty: float, weights: Single, intercepts: Single) -> Double:
        """Lower Cholesky factor of the curvature by the weights of one output, the mean over outputs, [P, P]."""
        logits = self.x @ weights + intercepts
        told = expit(logits) if self.outputs == 1 else softmax(logits, 1)
        curve = np.sqrt((told * (1 - told)).mean(1, keepdims=True) / len(self.x))
        gram = np.zeros((self.x.shape[1],) * 2, np.float32)
        for at in range(0, len(self.x), _BLOCK):
            block = self.x[at : at + _BLOCK] * curve[at : at + _BLOCK]
            gram += block.T @ block
        # Rounding of float32 sums must not make it indefinite.
        floor = penalty + 1e-6 * float(gram.diagonal().mean())
        return np.asarray(cholesky(gram.astype(np.float64) + floor * np.eye(len(gram)), lower=True, check_finite=False))
