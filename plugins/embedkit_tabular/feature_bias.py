"""The ``feature_bias`` evaluator: how well an attribute can be told from embeddings, beside how much of their variance it takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from embedkit.component import Config
from embedkit.errors import DataError, UsageError
from embedkit.evaluate.base import Estimate, EvaluateContext, Evaluator
from embedkit.evaluate.estimate import interval
from embedkit_tabular.configs_evaluate import FeatureBiasConfig
from embedkit_tabular.sample import Floats, Sample, one_value

_SMALLEST = 1e-10
"""Share of the largest variance below which a direction holds rounding alone."""


class FeatureBias(Evaluator):
    """For each attribute a, ``probe:a`` and ``variance_share:a`` [Lampinen, Chan and Hermann 2024, from memory].

    Attributes that can be told equally well may take very unequal shares of the variance: simple and early-learned ones take more. A low
    share is therefore not a lack of information, and similarity searches see large shares first.

    ``probe``: accuracy of a logistic regression on whitened embeddings, fitted on train rows (for a number: R² of a ridge regression);
    whitened, so that the probe's own penalty does not take a small share for little information. ``variance_share``: R² of the embeddings
    on the attribute (its classes, or a line), adjusted for the number of classes k: ``1 - (1 - R²)(n - 1) / (n - k)``, so that an attribute
    without effect has a share of zero on average, however many classes it has.
    """

    config: FeatureBiasConfig

    @classmethod
    def metrics(cls, config: Config) -> tuple[str, ...]:
        """Two figures an attribute."""
        assert isinstance(config, FeatureBiasConfig)
        return tuple(f"{figure}:{name}" for name in dict.fromkeys(config.attributes) for figure in ("probe", "variance_share"))

    def run(self, context: EvaluateContext) -> list[Estimate]:
        """Measure; beside the probes of categories stands ``majority``, the share of the class that is most frequent in training.

        Raises:
            UsageError: an attribute holds several values a row, or scikit-learn is not installed.
            DataError: a split has no rows in which an attribute is known.
        """
        limit = self.config.max_rows
        train = Sample.of(context, self.config.tower, "train", limit)
        held = Sample.of(context, self.config.tower, context.split, min(limit, context.max_queries or limit))
        vectors = train.embeddings(), held.embeddings()
        found: list[Estimate] = []
        for name in dict.fromkeys(self.config.attributes):
            values = [one_value(sample.column(name), name, wanted="an attribute") for sample in (train, held)]
            known = [~np.isnan(v) for v in values]
            if min(known[0].sum(), known[1].sum()) < 2:
                raise DataError(f"feature_bias: attribute '{name}' is known in fewer than two train or {context.split} rows")
            x = [v[k] for v, k in zip(vectors, known, strict=True)]
            y = [v[k] for v, k in zip(values, known, strict=True)]
            number = context.store.codecs.stats[name].size is None
            found += self._number(name, x, y) if number else self._category(name, x, y, context)
        return found

    def _category(self, name: str, x: list[Floats], y: list[Floats], context: EvaluateContext) -> list[Estimate]:
        classes, counts = np.unique(y[0], return_counts=True)
        most = classes[counts.argmax()]
        told = _logistic(x[0], y[0], x[1]) if len(classes) > 1 else np.full(len(y[1]), most)
        right = np.stack([told == y[1], y[1] == most], 1).astype(float)
        share = variance_share(x[1], y[1])
        if context.quick:
            return [
                Estimate(f"probe:{name}", float(right[:, 0].mean()), None, None, len(right)),
                Estimate(f"variance_share:{name}", share, None, None, len(right)),
            ]
        around = interval(right, seed=context.seed)
        return [
            Estimate(f"probe:{name}", *_bounds(around, 0), len(right)),
            Estimate(f"probe:{name}", *_bounds(around, 1), len(right), "majority"),
            Estimate(f"variance_share:{name}", share, None, None, len(right)),
        ]

    def _number(self, name: str, x: list[Floats], y: list[Floats]) -> list[Estimate]:
        told = _ridge(x[0], y[0], x[1])
        total = float(np.square(y[1] - y[1].mean()).sum())
        explained = 1.0 - float(np.square(y[1] - told).sum()) / total if total else 0.0
        return [
            Estimate(f"probe:{name}", explained, None, None, len(told)),
            Estimate(f"variance_share:{name}", line_share(x[1], y[1]), None, None, len(told)),
        ]


def variance_share(x: Floats, y: Floats) -> float:
    """Adjusted R² of x [N, E] on the classes y [N]: the variance between classes over all variance, summed over dimensions."""
    classes, place, sizes = np.unique(y, return_inverse=True, return_counts=True)
    sums = np.zeros((len(classes), x.shape[1]))
    np.add.at(sums, place, x - x.mean(0))
    between = float((np.square(sums) / sizes[:, None]).sum())
    return _adjusted(between, float(np.square(x - x.mean(0)).sum()), len(x), len(classes))


def line_share(x: Floats, y: Floats) -> float:
    """Adjusted R² of x [N, E] on a line in y [N]."""
    centred = y - y.mean()
    square = float(np.square(centred).sum())
    between = float(np.square((x - x.mean(0)).T @ centred).sum()) / square if square else 0.0
    return _adjusted(between, float(np.square(x - x.mean(0)).sum()), len(x), 2)


def _adjusted(between: float, total: float, rows: int, parameters: int) -> float:
    if not total or rows <= parameters:
        return 0.0
    return 1.0 - (1.0 - between / total) * (rows - 1) / (rows - parameters)


def _bounds(around: Any, column: int) -> tuple[float, float, float]:
    return float(around.value[column]), float(around.low[column]), float(around.high[column])


def _logistic(x: Floats, y: Floats, held: Floats) -> Floats:
    white = whitening(x)
    told: Floats = _linear_models().LogisticRegression(max_iter=1_000).fit(white(x), y).predict(white(held))
    return told


def _ridge(x: Floats, y: Floats, held: Floats) -> Floats:
    white = whitening(x)
    told: Floats = _linear_models().Ridge(alpha=1.0).fit(white(x), y).predict(white(held))
    return told


def whitening(x: Floats) -> Callable[[Floats], Floats]:
    """A linear map after which the rows of x have unit variance in all directions that they fill."""
    mean = x.mean(0)
    values, vectors = np.linalg.eigh(np.cov((x - mean).T, bias=True).reshape(x.shape[1], x.shape[1]))
    kept = values > _SMALLEST * values[-1]
    scaled: Floats = vectors[:, kept] / np.sqrt(values[kept])
    return lambda other: (other - mean) @ scaled


def _linear_models() -> Any:
    try:
        from sklearn import linear_model
    except ImportError:
        raise UsageError("feature_bias needs scikit-learn: install embedkit[sklearn]") from None
    return linear_model
