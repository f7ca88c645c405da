"""Probes: linear models on vectors or raw features, and a boosted tree; how strong is chosen on the validation part."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.compose import make_column_transformer
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler
from tables import PARTS, Table

Array = npt.NDArray[Any]
C = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0)
"""Inverse strengths of the linear probe."""


@dataclass(frozen=True, eq=False)
class Found:
    """What a probe reached.

    Attributes:
        chosen: its option.
        valid: figure of the validation part.
        right: for each test row, 1.0 where it is right (the squared error for a regression).
    """

    chosen: Any
    valid: float
    right: Array

    @property
    def test(self) -> float:
        """Accuracy, or RMSE."""
        return float(self.right.mean())


def raw(table: Table) -> dict[str, Array]:
    """Numbers standardised with a flag where missing, categories one-hot: what a linear model reads without any learning."""
    numbers = make_pipeline(SimpleImputer(add_indicator=True), StandardScaler())
    one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    transform = make_column_transformer((numbers, list(table.numbers)), (one_hot, list(table.categories)))
    frames = {part: table.part(part)[0].to_pandas() for part in PARTS}
    transform.fit(frames["train"])
    return {part: np.asarray(transform.transform(frame)) for part, frame in frames.items()}


def narrowed(features: Mapping[str, Array], width: int) -> dict[str, Array]:
    """The first principal directions of the train rows, [rows, width]."""
    directions = PCA(width, svd_solver="covariance_eigh").fit(features["train"])
    return {part: directions.transform(values) for part, values in features.items()}


def linear(table: Table, features: Mapping[str, Array]) -> Found:
    """Logistic or ridge regression on standardised features."""
    scale = StandardScaler().fit(features["train"])
    x = {part: scale.transform(values).astype(np.float32) for part, values in features.items()}
    y = table.part("train")[1]
    if table.regression:
        return _best(table, x, ((c, Ridge(alpha=1.0 / c, solver="svd").fit(x["train"], y)) for c in C))
    return _best(table, x, _logistic(x["train"], y))


def _logistic(x: Array, y: Array) -> Iterator[tuple[float, LogisticRegression]]:
    """A fit for each of ``C``, from the strongest penalty on; each starts from the one before, which spares most of its steps."""
    model = LogisticRegression(max_iter=300, warm_start=True)
    for c in C:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.set_params(C=c).fit(x, y)
        yield c, deepcopy(model)


def boosted(table: Table) -> Found:
    """Histogram gradient boosting on the raw columns, early stopping on train rows."""
    order = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan, encoded_missing_value=np.nan)
    transform = make_column_transformer((order, list(table.categories)), remainder="passthrough")
    frames = {part: table.part(part)[0].to_pandas() for part in PARTS}
    transform.fit(frames["train"])
    x = {part: np.asarray(transform.transform(frame), dtype=float) for part, frame in frames.items()}
    kind = HistGradientBoostingRegressor if table.regression else HistGradientBoostingClassifier
    categories = list(range(len(table.categories)))

    def fitted(rate: float) -> Any:
        model = kind(learning_rate=rate, max_iter=500, early_stopping=True, categorical_features=categories, random_state=0)
        return model.fit(x["train"], table.part("train")[1])

    return _best(table, x, ((rate, fitted(rate)) for rate in (0.05, 0.1)))


def _best(table: Table, x: Mapping[str, Array], fits: Iterable[tuple[float, Any]]) -> Found:
    """Of models that were fitted on train rows keep the one that does best on validation rows, and measure it once on test rows."""
    y = {part: table.part(part)[1] for part in PARTS}
    tried = [(score(table, model.predict(x["valid"]), y["valid"]).mean(), option, model) for option, model in fits]
    valid, option, model = (min if table.regression else max)(tried, key=lambda one: one[0])
    return Found(option, float(valid), score(table, model.predict(x["test"]), y["test"]))


def score(table: Table, predicted: Array, y: Array) -> Array:
    """For each row, 1.0 where a class is right; the squared error of a number."""
    return (predicted - y) ** 2 if table.regression else (predicted == y).astype(float)
