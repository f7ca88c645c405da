"""The probe evaluators: one protocol, three learners.

A learner is fitted on the train rows' vectors; its strength is chosen on the valid rows, and what is reported are the rows of the split
that is asked. No model is fitted on valid rows. When the valid split itself is asked (while training), or there is none, the strength is
chosen on a fifth of the train rows that fitting leaves out, and the learner is then fitted on all of them. Controls get the same rows, the
same learner and the same choice of strengths.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import polars as pl
import torch

from embedkit.component import Config
from embedkit.data.splits import NAMES
from embedkit.evaluate.base import Estimate, EvaluateContext, Evaluator
from embedkit.evaluate.metrics import Floats, Ints
from embedkit.evaluate.vectors import row_vectors
from embedkit.nn.model import Model
from embedkit.training.compute import derive_seed, seeded
from embedkit_probes.configs import GbdtProbeConfig, KnnProbeConfig, LinearProbeConfig, ProbeConfig
from embedkit_probes.figures import Figure, classification, intervals, per_row, regression
from embedkit_probes.learners import Learner, Linear, Neighbors, Trees, require_sklearn
from embedkit_probes.raw import Raw
from embedkit_probes.task import Labels, Task

Vectors = Callable[[Ints, int], Any]
"""Row numbers, and the last split that histories may hold → a matrix that a learner takes."""


class Probe(Evaluator):
    """Base of the probes."""

    config: ProbeConfig

    @classmethod
    def metrics(cls, config: Config) -> tuple[str, ...]:
        """Those of the task."""
        assert isinstance(config, ProbeConfig)
        return config.names

    @abstractmethod
    def learner(self, classes: int) -> Learner:
        """A new learner."""

    def run(self, context: EvaluateContext) -> list[Estimate]:
        """Fit, choose, measure. ``quick`` measures the model alone, without intervals.

        Raises:
            UsageError: scikit-learn is not installed, or the label is none of the task's.
            DataError: a split has no labelled rows, or embeddings are not finite.
        """
        require_sklearn()
        task = Task.of(self.config, context)
        predictions = {name: predict(learner, vectors, task, context) for name, learner, vectors in self._models(context, task)}
        figures = {name: _figures(task, found) for name, found in predictions.items()}
        whole = np.ones((1, len(task.asked)))
        bounds = {} if context.quick else intervals(figures, len(task.asked), context.seed)
        if not context.quick:
            context.save_table(f"queries-{context.split}", _table(context, task, predictions))
        estimates = []
        for model, mine in figures.items():
            for name, figure in mine.items():
                low, high = bounds.get((model, name), (None, None))
                estimates.append(Estimate(name, float(figure(whole)[0]), low, high, len(task.asked), model))
        return estimates

    def _models(self, context: EvaluateContext, task: Task) -> Iterator[tuple[str, Learner, Vectors]]:
        """What is measured: the model, then the controls."""
        learner, tower, store = self.learner(task.classes), self.config.tower, context.store
        yield "model", learner, embeddings(context.model, context, tower)
        if context.quick:
            return
        raw = Raw(store, tower)
        for control in self.config.controls:
            if control == "untrained":
                yield control, learner, embeddings(untrained(context), context, tower)
            elif raw.specs and control == "boosted_tree":
                yield control, self.trees(task.classes), raw.for_trees
            elif raw.specs and not isinstance(learner, Trees):  # trees on raw columns are the boosted tree
                yield control, learner, raw.one_hot

    def trees(self, classes: int) -> Learner:
        """The learner of the control ``boosted_tree``."""
        return Trees(GbdtProbeConfig.model_fields["iterations"].default, classes)


class LinearProbe(Probe):
    """Logistic regression of a category, ridge regression of a number."""

    config: LinearProbeConfig

    def learner(self, classes: int) -> Learner:
        """Penalties, the largest first."""
        return Linear(sorted(self.config.penalties, reverse=True), classes)


class KnnProbe(Probe):
    """The vote, or the mean, of the nearest train rows."""

    config: KnnProbeConfig

    def learner(self, classes: int) -> Learner:
        """Numbers of neighbours, the largest first."""
        return Neighbors(sorted(self.config.neighbors, reverse=True), classes)


class GbdtProbe(Probe):
    """Boosted trees; on raw columns they are the control ``boosted_tree``, so there is no control ``raw``."""

    config: GbdtProbeConfig

    def learner(self, classes: int) -> Learner:
        """Rounds, the fewest first."""
        return Trees(sorted(self.config.iterations), classes, self.config.learning_rate)

    def trees(self, classes: int) -> Learner:
        """The same trees."""
        return self.learner(classes)


def predict(learner: Learner, vectors: Vectors, task: Task, context: EvaluateContext) -> Floats:
    """Predictions for the asked rows with the strength that is best on the rows to tune on; of equally good ones the most cautious."""
    x, asked = vectors(task.train, 0), vectors(task.asked, NAMES[context.split])
    if task.held_out.any():
        fitted = ~task.held_out
        tried = learner.path(x[fitted], task.y_train[fitted], x[task.held_out], learner.strengths)
        y = task.y_train[task.held_out]
    else:
        tried, y = learner.path(x, task.y_train, vectors(task.tune, NAMES["valid"]), learner.strengths), task.y_tune
    best = learner.strengths[int(np.argmax([_score(y, found) for found in tried]))]
    return next(iter(learner.path(x, task.y_train, asked, [best])))


def embeddings(model: Model, context: EvaluateContext, tower: str) -> Vectors:
    """Vectors of rows by a model."""

    def of(rows: Ints, limit: int) -> Any:
        return row_vectors(model, context.store, tower, rows, limit=limit, precision=context.precision).cpu().numpy()

    return of


def untrained(context: EvaluateContext) -> Model:
    """The model with the weights that the run drew before training."""
    store = context.store
    with seeded(derive_seed(store.plan.config.seed, "weights")):
        return Model(context.model.spec, store.codecs.stats).to(context.device).eval()


def _score(y: Labels, prediction: Floats) -> float:
    """What a strength is chosen by: accuracy, or minus the mean squared error."""
    if prediction.ndim == 2:
        return float((prediction.argmax(axis=1) == y).mean())
    return -float(np.square(y - prediction).mean())


def _figures(task: Task, prediction: Floats) -> dict[str, Figure]:
    if task.classes:
        return classification(np.asarray(task.y_asked, dtype=np.int64), prediction)
    return regression(np.asarray(task.y_asked, dtype=np.float64), prediction)


def _table(context: EvaluateContext, task: Task, predictions: dict[str, Floats]) -> pl.DataFrame:
    """One row an asked row and model, for ``embedkit compare``: its id (or number), its label's class and what can be compared."""
    ids = context.store.tables[task.table].ids()
    rows = torch.from_numpy(task.asked)
    names = [str(row) for row in rows.tolist()] if ids is None else [str(ids[row].as_py()) for row in rows.tolist()]
    label = pl.Series(task.y_asked.reshape(-1, 1).tolist(), dtype=pl.List(pl.Int64 if task.classes else pl.Float64))
    frames = [
        pl.DataFrame(
            {
                "model": pl.Series([model]).new_from_index(0, len(names)),
                "query": pl.Series(names, dtype=pl.String),
                "user": pl.Series(task.asked),
                "targets": label,
                **{name: pl.Series(values) for name, values in per_row(task.y_asked, prediction).items()},
            }
        )
        for model, prediction in predictions.items()
    ]
    return pl.concat(frames)
