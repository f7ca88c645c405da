"""The ``feature_relevance`` evaluator: does the model give room to the features that matter for a label it may never have seen?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl

from embedkit.component import Config
from embedkit.data.columns import Column
from embedkit.errors import UsageError
from embedkit.evaluate.base import Estimate, EvaluateContext, Evaluator
from embedkit.nn.pooling import slots
from embedkit_tabular.configs_evaluate import FeatureRelevanceConfig
from embedkit_tabular.sample import Floats, Sample, one_value

if TYPE_CHECKING:
    from embedkit.data.store import Store

_MOST_CODES = 255
"""Histogram boosting takes no category of more values; such codes are read as numbers."""


class FeatureRelevance(Evaluator):
    """Kendall's tau between two rankings of a tower's features (Thimonier et al. 2025, arXiv 2410.05016, on embedding variance).

    One: the share of a feature's tokens, after the trunk, in the variance over rows. The other: permutation importance, how much a
    boosted tree that was fitted on train rows loses when the feature's values are dealt anew among the rows of the split. Lists and text
    have no column that a tree could read and are left out of both.
    """

    config: FeatureRelevanceConfig

    @classmethod
    def metrics(cls, config: Config) -> tuple[str, ...]:
        """The one figure."""
        return ("relevance_tau",)

    def run(self, context: EvaluateContext) -> list[Estimate]:
        """Measure; the table ``relevance-<split>`` holds both figures of each feature. ``boosted_tree`` says how well the tree does.

        Raises:
            UsageError: fewer than three features can be read by a tree, the label holds lists, or scikit-learn is not installed.
            DataError: a split has too few rows.
        """
        from scipy.stats import kendalltau

        tower, label, limit = self.config.tower, self.config.label, self.config.max_rows
        train = Sample.of(context, tower, "train", limit)
        held = Sample.of(context, tower, context.split, min(limit, context.max_queries or limit))
        names = [name for name in context.store.schema.towers[tower].fields if name != label and _readable(train.column(name))]
        if len(names) < 3:
            raise UsageError(f"feature_relevance: tower '{tower}' has {len(names)} features that a tree could read, and three are wanted")
        tree = Tree(context.store, names, label, seed=context.seed)
        tree.fit(train)
        score, loss = tree.importance(held, self.config.repeats)
        shares = variance_shares(held, names)
        tau = float(kendalltau(shares, loss.mean(0)).statistic)
        found = [Estimate("relevance_tau", tau, None, None, len(names))]
        if not context.quick:
            found.append(Estimate("r2" if tree.regression else "accuracy", score, None, None, len(held.rows), "boosted_tree"))
            table = {"field": names, "variance_share": shares, "importance": loss.mean(0), "importance_std": loss.std(0)}
            context.save_table(f"relevance-{context.split}", pl.DataFrame(table).sort("importance", descending=True))
        return found


class Tree:
    """Histogram gradient boosting on the columns of some fields.

    Args:
        store: statistics of the fields.
        names: features.
        label: what it tells.
        seed: of its early stopping and of permutations.
    """

    def __init__(self, store: Store, names: Sequence[str], label: str, *, seed: int) -> None:
        try:
            from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
        except ImportError:
            raise UsageError("feature_relevance needs scikit-learn: install embedkit[sklearn]") from None
        self.names, self.label, self.seed = list(names), label, seed
        stats = store.codecs.stats
        self.regression = stats[label].size is None
        coded = [stats[name].size is not None and stats[name].size <= _MOST_CODES for name in names]
        widths = [max(1, stats[name].width) for name in names]
        self.columns = np.split(np.arange(sum(widths)), np.cumsum(widths)[:-1])
        kind: Any = HistGradientBoostingRegressor if self.regression else HistGradientBoostingClassifier
        categories = [int(c) for columns, code in zip(self.columns, coded, strict=True) if code for c in columns]
        self.model = kind(categorical_features=categories, random_state=seed)

    def fit(self, sample: Sample) -> None:
        """Fit on the rows whose label is known."""
        x, y = self._read(sample)
        self.model.fit(x, y)

    def importance(self, sample: Sample, repeats: int) -> tuple[float, Floats]:
        """Accuracy (R² for numbers) on some rows, and what it loses a repeat and permuted feature, [repeats, F]."""
        x, y = self._read(sample)
        score = float(self.model.score(x, y))
        draw = np.random.default_rng(self.seed)
        lost = np.zeros((repeats, len(self.names)))
        for r in range(repeats):
            for f, columns in enumerate(self.columns):
                dealt = x.copy()
                dealt[:, columns] = x[draw.permutation(len(x))][:, columns]
                lost[r, f] = score - float(self.model.score(dealt, y))
        return score, lost

    def _read(self, sample: Sample) -> tuple[Floats, Floats]:
        y = one_value(sample.column(self.label), self.label, wanted="a label")
        x = np.concatenate([_numbers(sample.column(name)) for name in self.names], axis=1)
        known = ~np.isnan(y)
        return x[known], y[known]


def variance_shares(sample: Sample, names: Sequence[str]) -> Floats:
    """Each field's share of the variance over rows of its tokens after the trunk, summed over their width, [F]."""
    count, total, square = 0, np.zeros(0), np.zeros(0)
    for outputs in sample.outputs():
        x: npt.NDArray[np.float64] = slots(outputs.tokens, list(names)).double().cpu().numpy()
        count += len(x)
        total, square = (total + x.sum(0), square + np.square(x).sum(0)) if total.size else (x.sum(0), np.square(x).sum(0))
    variance: Floats = np.maximum(square / count - np.square(total / count), 0.0).sum(1)
    return variance / max(float(variance.sum()), 1e-12)


def _readable(column: Column) -> bool:
    return not column.ragged and column.values.dim() <= 2


def _numbers(column: Column) -> Floats:
    """float64 [N, W], NaN where missing."""
    values = column.values.double().numpy().copy()
    values = values[:, None] if values.ndim == 1 else values
    if column.present is not None:
        values[~column.present.numpy()] = np.nan
    return values
