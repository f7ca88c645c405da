from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from evaluation import context

from embedkit.errors import UsageError
from embedkit.testing.conformance.evaluator import EvaluatorConformance
from embedkit_tabular.configs_evaluate import FeatureBiasConfig, FeatureRelevanceConfig
from embedkit_tabular.feature_bias import FeatureBias, line_share, variance_share
from embedkit_tabular.feature_relevance import FeatureRelevance, variance_shares
from embedkit_tabular.sample import Sample

pytest.importorskip("sklearn")

AS_IT_MATTERS = {"strong": 4.0, "middling": 2.0, "weak": 1.0, "noise": 0.25}
THE_OTHER_WAY = {"strong": 0.25, "middling": 1.0, "weak": 2.0, "noise": 8.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("rows")


class TestFeatureRelevance(EvaluatorConformance):
    @pytest.fixture(autouse=True)
    def _context(self, folder):
        self.given = context(folder, AS_IT_MATTERS)

    def evaluator(self):
        return FeatureRelevance(FeatureRelevanceConfig(tower="row", label="label", repeats=2), context=None)

    def evaluate_context(self):
        return self.given


class TestFeatureBias(EvaluatorConformance):
    @pytest.fixture(autouse=True)
    def _context(self, folder):
        self.given = context(folder)

    def evaluator(self):
        return FeatureBias(FeatureBiasConfig(tower="row", attributes=["label", "kind", "amount"]), context=None)

    def evaluate_context(self):
        return self.given


def relevance(given, **options):
    tables = {}
    evaluator = FeatureRelevance(FeatureRelevanceConfig(**{"tower": "row", "label": "label"} | options), context=None)
    found = evaluator.run(replace(given, save_table=tables.__setitem__))
    return {one.metric: one for one in found}, tables


def test_tau_says_whether_the_model_gives_room_to_what_matters(folder):
    found, tables = relevance(context(folder, AS_IT_MATTERS))
    against, _ = relevance(context(folder, THE_OTHER_WAY))
    assert found["relevance_tau"].value > 0.5
    assert against["relevance_tau"].value < found["relevance_tau"].value - 0.5
    assert found["accuracy"].model == "boosted_tree"
    assert found["accuracy"].value > 0.85
    table = tables["relevance-test"]
    assert table["field"].to_list()[:2] == ["strong", "middling"]
    assert set(table["field"]) == {"strong", "middling", "weak", "noise", "kind"}  # a tree cannot read tags
    assert table["importance"][0] > 0.2
    assert abs(float(table.filter(table["field"] == "noise")["importance"][0])) < 0.05


def test_a_number_may_be_the_label(folder):
    found, tables = relevance(context(folder, AS_IT_MATTERS), label="amount")
    assert found["r2"].value > 0.9
    assert tables["relevance-test"]["field"][0] == "strong"


def test_shares_are_those_of_the_variance(folder):
    given = context(folder, AS_IT_MATTERS)
    sample = Sample.of(given, "row", "test", 10_000)
    names = ["strong", "middling", "noise"]
    (outputs,) = list(sample.outputs())
    by_hand = np.array([outputs.tokens.x[:, outputs.tokens.spans[n]].flatten(1).double().numpy().var(0).sum() for n in names])
    np.testing.assert_allclose(variance_shares(sample, names), by_hand / by_hand.sum(), rtol=1e-9)


def bias(given, *attributes):
    found = FeatureBias(FeatureBiasConfig(tower="row", attributes=list(attributes)), context=None).run(given)
    return {(one.metric, one.model): one for one in found}


def test_equally_told_attributes_may_take_unequal_shares(folder):
    """The strong feature made large takes the variance; the kind can be told as well, from very little of it."""
    found = bias(context(folder, {"strong": 30.0, "middling": 0.01, "weak": 0.01, "noise": 0.01}), "kind", "amount", "label")
    assert found["probe:kind", "model"].value > 0.98
    assert found["probe:amount", "model"].value > 0.95
    assert found["variance_share:amount", "model"].value > 0.8
    assert found["variance_share:kind", "model"].value < 0.05
    one = found["probe:label", "model"]
    assert one.low < one.value < one.high
    assert 0.4 < found["probe:label", "majority"].value < 0.6


def test_an_attribute_without_effect_has_no_share_however_many_classes_it_has():
    draw = np.random.default_rng(0)
    x = draw.normal(size=(2000, 6))
    for classes in (2, 50, 400):
        shares = [variance_share(x, draw.integers(0, classes, 2000)) for _ in range(20)]
        assert abs(np.mean(shares)) < 0.005
    assert abs(line_share(x, draw.normal(size=2000))) < 0.005


def test_shares_against_a_regression():
    from sklearn.linear_model import LinearRegression

    draw = np.random.default_rng(0)
    y = draw.integers(0, 4, 300).astype(float)
    x = np.stack([y == 1, y == 2, y], 1) + draw.normal(size=(300, 3))
    for share, design, k in ((variance_share, np.eye(4)[y.astype(int)], 4), (line_share, y[:, None], 2)):
        rest = x - LinearRegression().fit(design, x).predict(design)
        r2 = 1 - (rest**2).sum() / ((x - x.mean(0)) ** 2).sum()
        assert share(x, y) == pytest.approx(1 - (1 - r2) * 299 / (300 - k))


def test_what_cannot_be_is_told(folder):
    given = context(folder)
    with pytest.raises(UsageError, match="field 'tags' holds several values a row; an attribute is one category or one number"):
        bias(given, "tags")
    with pytest.raises(UsageError, match="field 'tags' holds several values a row; a label is"):
        relevance(given, label="tags")
