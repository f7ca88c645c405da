from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch

from embedkit.data.codec import CodecContext
from embedkit.data.store import Store
from embedkit.data.vocabulary import Vocabulary
from embedkit.evaluate.base import EvaluateContext
from embedkit.nn.gather import Shards
from embedkit.nn.model import Model
from embedkit.schema import FieldSpec, Schema
from embedkit.testing.conformance.evaluator import EvaluatorConformance
from embedkit.testing.conformance.loss import LossConformance, PlainStep
from embedkit_prediction import losses
from embedkit_prediction.configs import BinaryCrossEntropyConfig, CrossEntropyConfig, SquaredErrorConfig
from embedkit_prediction.losses import BinaryCrossEntropy, CrossEntropy, SquaredError
from embedkit_prediction.prediction import Prediction
from embedkit_tabular.category import Category
from embedkit_tabular.fields import CategoryOptions, NumberOptions
from embedkit_tabular.number import Number

OPTIONS = {"tower": "item", "label": "y"}


def with_label(context, codec, width):
    """The suite's context with a label field ``y``."""
    spec = codec.context.spec
    schema = Schema({"y": spec}, context.schema.towers, {})
    return replace(context, schema=schema, codecs={"y": codec}, tower_dims=dict.fromkeys(context.tower_dims, width))


def number(values):
    codec = Number(NumberOptions(), context=CodecContext(FieldSpec("y", "number", "items", "y", "y", "label")))
    codec.observe(pa.array(values))
    codec.finish()
    return codec


def category(values):
    vocabulary = Vocabulary(pa.array(values), np.ones(len(values), np.int64))
    return Category(CategoryOptions(), context=CodecContext(FieldSpec("y", "category", "items", "y", "y", "label"), vocabulary))


class TestBinaryCrossEntropy(LossConformance):
    """The suite's labels are codes 0 (unknown) and 1."""

    def loss(self, context):
        return BinaryCrossEntropy(BinaryCrossEntropyConfig(**OPTIONS), context=with_label(context, category([False, True]), 1))

    def test_processes_share_one_mean(self, monkeypatch):
        """Shards with unequally many labelled rows give the mean over the whole batch, not the mean of their means."""
        loss = self.make()
        steps = [PlainStep(loss.needs, rows=rows, seed=rows) for rows in (6, 3)]
        known = [int((step.views["main"].batch.labels["y"] > 0).sum()) for step in steps]
        alone = [float(loss(step).loss.detach()) for step in steps]
        assert known[0] != known[1]

        class Two(Shards):
            def mean(self, total, count):
                return total * 2 / sum(known)

        monkeypatch.setattr(losses, "shards", lambda rows, device: Two((6, 3), 0))
        parts = [float(loss(step).loss.detach()) for step in steps]
        assert sum(parts) / 2 == pytest.approx(sum(k * a for k, a in zip(known, alone, strict=True)) / sum(known))


class TestCrossEntropy(LossConformance):
    def loss(self, context):
        codec = category(list("abcdefgh"))
        return CrossEntropy(CrossEntropyConfig(**OPTIONS, smoothing=0.1), context=with_label(context, codec, 8))


class TestSquaredError(LossConformance):
    def loss(self, context):
        return SquaredError(SquaredErrorConfig(**OPTIONS), context=with_label(context, number([0.0, 1.0, 4.0]), 1))


@pytest.fixture
def problem(rows):
    def make(label):
        run = rows.run_file(label)
        plan = rows.plan(run)
        store = Store.open(plan)
        torch.manual_seed(0)
        model = Model(plan.model, store.fit().stats).eval()
        return plan, EvaluateContext(model, store, "test", torch.device("cpu"), 0, lambda name, frame: None)

    return make


class _Suite(EvaluatorConformance):
    label: str

    @pytest.fixture(autouse=True)
    def _problem(self, problem):
        self.plan, self.context = problem(self.label)

    def evaluator(self):
        return Prediction(self.plan.evaluators[0].config, context=None)

    def evaluate_context(self):
        return self.context


class TestBinary(_Suite):
    label = "clicked"


class TestMulticlass(_Suite):
    label = "shade"


class TestRegression(_Suite):
    label = "price"
