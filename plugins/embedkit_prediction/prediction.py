"""The ``prediction`` evaluator: how well a tower predicts a label of its rows, beside simple baselines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from embedkit.component import Config
from embedkit.data.splits import NAMES
from embedkit.errors import DataError, UsageError
from embedkit.evaluate.base import Estimate, EvaluateContext, Evaluator
from embedkit.evaluate.estimate import interval
from embedkit.evaluate.metrics import Bools, Floats, Ints
from embedkit_prediction import figures, linear
from embedkit_prediction.configs import PredictionConfig
from embedkit_prediction.labels import Binary, class_names, require_label, require_number

if TYPE_CHECKING:
    from embedkit.data.batch import Batch

_ROWS = 4096


class Prediction(Evaluator):
    """Binary: AUC, log loss, average precision, calibration (mean prediction / mean label) and expected calibration error. Multiclass:
    accuracy, macro F1, log loss. Regression: RMSE, MAE and R² in the label's own units. With 95% intervals over rows or groups of rows.

    Rows whose label is missing, or a class that training never saw, are left out; ``left_out`` reports their share. The table
    ``queries-<split>`` holds, for each row, label, prediction, and a value a figure whose mean is the figure (see ``figures``), which is
    what ``embedkit compare`` pairs.
    """

    config: PredictionConfig

    @classmethod
    def metrics(cls, config: Config) -> tuple[str, ...]:
        """``auc`` and so on, as the task has."""
        assert isinstance(config, PredictionConfig)
        return config.names

    def run(self, context: EvaluateContext) -> list[Estimate]:
        """Predict, then measure. ``quick`` measures the model alone, without intervals.

        Raises:
            UsageError: the label, the tower's head or the group does not suit.
            DataError: the split has no labelled rows, or only rows of one label, or predictions are not finite.
        """
        task = Task(self.config, context)
        rows = task.rows(context.split, context.max_queries)
        known, truth = task.labels(rows)
        kept = rows[known]
        if not len(kept):
            raise DataError(
                f"table '{task.table}': its {context.split} split has no row with a label '{self.config.label}'; give it a split with some"
            )
        model = task.predictions(kept)
        found = {"model": (model, self._measure(truth, model, context.split))}
        if context.quick:
            return [Estimate(name, float(v.mean()), None, None, len(kept)) for name, v in found["model"][1].items()]
        for name, predict in self._baselines(task):
            guess = predict(kept)
            found[name] = (guess, self._measure(truth, guess, context.split))
        groups = task.groups(kept)
        estimates: list[Estimate] = []
        for name, (_, values) in found.items():
            estimates += _estimates(name, values, groups, context.seed)
        estimates.append(Estimate("left_out", float(1 - known.mean()), None, None, len(rows)))
        frames = [_table(name, task, kept, truth, groups, guess, values) for name, (guess, values) in found.items()]
        context.save_table(f"queries-{context.split}", pl.concat(frames))
        return estimates

    def _measure(self, truth: Any, guess: Floats, split: str) -> dict[str, Floats]:
        kinds = {
            "binary": partial(figures.binary, bins=self.config.bins),
            "multiclass": figures.multiclass,
            "regression": figures.regression,
        }
        try:
            return kinds[self.config.task](truth, guess)
        except figures.Undefined as error:
            raise DataError(
                f"evaluate: '{self.config.label}' cannot be measured on the {split} split: {error}; give the split more rows"
            ) from None

    def _baselines(self, task: Task) -> Iterator[tuple[str, Callable[[Ints], Floats]]]:
        names = self.config.baselines
        if names is None:
            names = ["constant", "linear"] if linear.installed() else ["constant"]
        for name in names:
            yield name, (task.constant() if name == "constant" else task.linear())


class Task:
    """The rows of a table, their labels, and what is predicted for them. ``rows`` are row numbers int64 [n] throughout."""

    def __init__(self, config: PredictionConfig, context: EvaluateContext) -> None:
        self.config, self.context, self.store = config, context, context.store
        schema = self.store.schema
        require_label(schema.fields, config.label, "evaluate")
        self.spec = schema.fields[config.label]
        self.tower = schema.towers[config.tower]
        self.table = self.tower.table
        self.codec = self.store.codecs[config.label]
        self.binary = Binary.of(self.codec, config.positive, "evaluate") if config.task == "binary" else None
        self.classes = class_names(self.codec, "evaluate") if config.task == "multiclass" else []
        if config.task == "regression":
            require_number(self.codec, "evaluate")
        head = context.model.heads[config.tower]
        wanted = len(self.classes) or 1
        if head.normalized or head.prefixes[-1] != wanted:
            raise UsageError(
                f"evaluate: label '{config.label}' wants {wanted} plain number(s) a row of tower '{config.tower}': "
                f"give it head linear with dim = {wanted} and normalize = false"
            )

    def rows(self, split: str, limit: int | None = None) -> Ints:
        """The rows of a split, at most ``limit`` of them, drawn with the context's seed."""
        found: Ints = np.flatnonzero(np.asarray(self.store.tables[self.table].split) == NAMES[split]).astype(np.int64)
        if limit is None or limit >= len(found):
            return found
        return np.sort(np.random.default_rng([self.context.seed, NAMES[split]]).choice(found, limit, replace=False))

    def labels(self, rows: Ints) -> tuple[Bools, Any]:
        """Which rows have a label, and the labels of those: 0 or 1, classes, or numbers in the table's units."""
        parts = [self._labels(self._batch(some, ())) for some in _pieces(rows)]
        known = np.concatenate([known for known, _ in parts]) if parts else np.zeros(0, bool)
        return known, np.concatenate([labels for _, labels in parts]) if parts else np.zeros(0)

    def _labels(self, batch: Batch) -> tuple[Bools, Any]:
        if self.config.label not in batch.labels:
            raise UsageError(
                f"evaluate: label '{self.config.label}' stands in table '{self.spec.table}', which '{self.table}' does not join"
            )
        values, present = batch.labels[self.config.label], batch.extras.get(f"{self.config.label}.present")
        if self.binary is not None:
            target, there = self.binary.targets(values, present)
            return there.numpy(), target[there].double().numpy()
        there = torch.ones(values.shape[0], dtype=torch.bool) if present is None else present
        if self.classes:
            there = there & (values > 0)
            return there.numpy(), (values[there] - 1).numpy()
        return there.numpy(), self._own_units(batch)[there.numpy()]

    def _own_units(self, batch: Batch) -> Floats:
        """The label's numbers as the table has them: encoded ones may have been cut."""
        rows = batch.rows[self.spec.table].numpy()
        found: Floats = self._column[np.maximum(rows, 0)]
        return found

    @cached_property
    def _column(self) -> Floats:
        import pyarrow as pa

        column = self.store.tables[self.spec.table].column(self.spec.column or self.spec.name)
        return np.asarray(column.cast(pa.float64(), safe=False).to_numpy())

    def predictions(self, rows: Ints) -> Floats:
        """The model's: probabilities [n], class probabilities [n, C], or numbers in the table's units [n]."""
        return np.concatenate([self._predict(self._batch(some, self.tower.fields)) for some in _pieces(rows)])

    @torch.inference_mode()
    def _predict(self, batch: Batch) -> Floats:
        context = self.context
        with torch.autocast(context.device.type, context.precision, enabled=context.precision != torch.float32):
            raw = context.model.encode(batch.to(context.device), self.config.tower)
        outputs: Tensor = raw.double().cpu()
        if not bool(torch.isfinite(outputs).all()):
            raise DataError(f"tower '{self.config.tower}': a prediction is not finite; training diverged, try a smaller learning rate")
        if self.binary is not None:
            return outputs[:, 0].sigmoid().numpy()
        return outputs.softmax(1).numpy() if self.classes else self.codec.restore(outputs[:, 0]).numpy()

    def groups(self, rows: Ints) -> Ints:
        """Which rows are resampled together: a number each."""
        name = self.config.group
        if name is None:
            return rows
        column = self._batch(rows, (name,)).columns[name]
        if column.ragged or column.values.is_floating_point() or column.values.dim() != 1:
            raise UsageError(f"evaluate: group = '{name}' is of type {self.store.schema.fields[name].type}, wanted one category a row")
        codes = column.values if column.present is None else column.values.masked_fill(~column.present, 0)
        # Rows without a known group are groups of their own.
        return np.where(codes.numpy() > 0, codes.numpy(), -1 - np.arange(len(rows)))

    def ids(self, rows: Ints) -> list[str]:
        """What a row is called: its key, or its number."""
        import pyarrow as pa

        ids = self.store.tables[self.table].ids()
        values = pa.array(rows) if ids is None else ids.take(pa.array(rows))
        found: list[str] = values.cast(pa.large_string()).to_pylist()
        return found

    # -- baselines

    def constant(self) -> Callable[[Ints], Floats]:
        """The train rows' rate, class shares, or mean for every row."""
        _, labels = self.labels(self.rows_of_training)
        if self.classes:
            shares = np.bincount(labels, minlength=len(self.classes)) / len(labels)
            return lambda rows: np.tile(shares, (len(rows), 1))
        return lambda rows: np.full(len(rows), labels.mean())

    def linear(self) -> Callable[[Ints], Floats]:
        """Logistic or ridge regression, tuned on the valid rows where there are some."""
        linear.require()
        rows = self.rows_of_training
        if len(rows) > self.config.baseline_rows:
            rows = np.sort(np.random.default_rng([self.context.seed, 0]).choice(rows, self.config.baseline_rows, replace=False))
        known, labels = self.labels(rows)
        tuning = self.rows("valid")
        there, truth = self.labels(tuning)
        held = self._features(tuning[there]) if there.any() else None

        def loss(predict: Callable[[Any], Floats]) -> float:
            if held is None:
                return 0.0
            guess = predict(held)
            if self.config.task == "regression":
                return float(np.square(truth - guess).mean())
            right = guess[np.arange(len(truth)), truth] if self.classes else np.where(truth == 1, guess, 1 - guess)
            return float(-np.log(np.clip(right, 1e-15, None)).mean())

        best = linear.fit(self._features(rows[known]), labels, self.config.task, loss, self.context.seed)
        if self.classes:
            return lambda rows: _spread(best(self._features(rows)), np.unique(labels), len(self.classes))
        return lambda rows: best(self._features(rows))

    @cached_property
    def rows_of_training(self) -> Ints:
        """Train rows; of events those whose joins found a row."""
        return np.asarray(self.store.train_rows(self.table), dtype=np.int64)

    def _features(self, rows: Ints) -> Any:
        import scipy.sparse as sp

        names = self.tower.fields
        stats = {name: self.store.codecs[name].stats for name in names}
        batches = (self._batch(some, names) for some in _pieces(rows))
        return sp.vstack([linear.features([(batch.columns[name], stats[name]) for name in names]) for batch in batches], format="csr")

    def _batch(self, rows: Ints, fields: tuple[str, ...]) -> Batch:
        """Histories hold what a query of the split would: events of earlier splits, or, where the evaluation rolls on, all earlier ones."""
        events = self.store.events.get(self.table)
        limit = 0
        if events is not None and len(rows):
            limit = 2 if events.rolling else max(0, int(np.asarray(events.split)[rows[0]]) - 1)
        return self.store.batch({self.table: torch.from_numpy(rows)}, fields, limit=limit)


def _pieces(rows: Ints) -> Iterator[Ints]:
    for at in range(0, len(rows), _ROWS):
        yield rows[at : at + _ROWS]


def _spread(guess: Floats, seen: Ints, classes: int) -> Floats:
    """Probabilities of the classes that the fit saw → of all classes."""
    out = np.zeros((len(guess), classes))
    out[:, seen] = guess
    return out


def _estimates(model: str, values: dict[str, Floats], groups: Ints, seed: int) -> list[Estimate]:
    found = interval(np.stack(list(values.values()), axis=1), seed=seed, users=groups)
    ends = [(None, None) if np.isnan(lo) else (float(lo), float(hi)) for lo, hi in zip(found.low, found.high, strict=True)]
    n = len(groups)
    return [Estimate(name, float(v), lo, hi, n, model) for name, v, (lo, hi) in zip(values, found.value, ends, strict=True)]


def _table(model: str, task: Task, rows: Ints, truth: Any, groups: Ints, guess: Floats, values: dict[str, Floats]) -> pl.DataFrame:
    """One row a row: label (``targets``), prediction (``score``), and each figure's value."""
    targets = pl.Series([task.classes[i] for i in truth]) if task.classes else pl.Series(np.asarray(truth, dtype=np.float64))
    columns = {
        "model": pl.Series([model]).new_from_index(0, len(rows)),
        "query": pl.Series(task.ids(rows), dtype=pl.String),
        "user": pl.Series(groups),
        "targets": targets,
        "score": pl.Series(guess),
    }
    return pl.DataFrame(columns | {name: pl.Series(v) for name, v in values.items()})
