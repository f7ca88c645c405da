from __future__ import annotations

import sys

import numpy as np
import polars as pl
import pytest
import torch

from embedkit.errors import DataError, UsageError
from embedkit.evaluate.run import evaluate_run, means
from embedkit.runs import RunFolder
from embedkit.testing.conformance.evaluator import EvaluatorConformance
from embedkit.training.compute import derive_seed, seeded
from embedkit_probes.configs import GbdtProbeConfig, KnnProbeConfig, LinearProbeConfig
from embedkit_probes.probe import GbdtProbe, KnnProbe, LinearProbe

from .conftest import people

CHEAP = ["raw", "untrained"]
"""Controls whose fit takes no second."""


class Probes(EvaluatorConformance):
    @pytest.fixture(autouse=True)
    def _ask(self, ask):
        self.asked = ask()

    def evaluate_context(self):
        return self.asked.context


class TestLinear(Probes):
    def evaluator(self):
        return linear()


class TestLinearOfANumber(Probes):
    def evaluator(self):
        return LinearProbe(LinearProbeConfig(label="amount", tower="person", task="regression", controls=CHEAP), context=None)


class TestNeighbors(Probes):
    def evaluator(self):
        return knn()


class TestTrees(Probes):
    def evaluator(self):
        return GbdtProbe(GbdtProbeConfig(label="group", tower="person", iterations=[2, 5]), context=None)


def run(probe, asked):
    return {(e.model, e.metric): e for e in probe.run(asked.context)}


def linear(**options):
    return LinearProbe(LinearProbeConfig(**({"label": "group", "tower": "person", "controls": CHEAP} | options)), context=None)


def knn():
    return KnnProbe(KnnProbeConfig(label="group", tower="person", controls=CHEAP), context=None)


def test_controls_stand_beside_the_model(ask):
    found = run(linear(controls=[*CHEAP, "boosted_tree"]), ask())
    assert {model for model, _ in found} == {"model", "raw", "untrained", "boosted_tree"}
    assert found["raw", "accuracy"].value > 0.75
    assert found["boosted_tree", "accuracy"].value > 0.9
    assert found["raw", "auc"].value > 0.9
    labelled = people().filter(pl.col("part") == "t")["group"].count()
    assert labelled < 60
    assert all(e.n == labelled for e in found.values())


def test_a_number_is_reported_in_its_own_unit(ask):
    found = run(linear(label="amount", task="regression"), ask())
    assert found["raw", "r2"].value > 0.8
    frame = people().filter(pl.col("part") == "t")
    assert found["raw", "rmse"].value < 0.5 * frame["amount"].std()
    wanted = 1 - (found["model", "rmse"].value ** 2) / float(frame["amount"].var(ddof=0))
    assert found["model", "r2"].value == pytest.approx(wanted)


def test_the_untrained_control_is_the_model_before_training(ask):
    asked = ask()
    with seeded(derive_seed(4, "weights")):
        from embedkit.nn.model import Model

        model = Model(asked.plan.model, asked.context.store.codecs.stats).eval()
    from dataclasses import replace

    asked.context = replace(asked.context, model=model)
    for probe in (linear(), knn()):
        found = run(probe, asked)
        for metric in ("accuracy", "macro_f1", "auc"):
            assert found["model", metric].value == found["untrained", metric].value


def test_test_rows_choose_nothing(ask):
    """Other labels of test rows change figures, but no prediction."""
    first = ask()
    run(linear(controls=[]), first)
    frame = people()
    turned = frame.with_columns(group=pl.when(pl.col("part") == "t").then(pl.lit("low")).otherwise("group"))
    again = ask(turned)
    run(linear(controls=[]), again)
    before, after = first.tables["queries-test"], again.tables["queries-test"]
    both = before.join(after, on="query", suffix="_after")
    guessed = both.filter(pl.col("accuracy") == 1)
    low = guessed["targets"].list.first() == both["targets_after"].list.first()[0]
    assert (guessed["accuracy_after"] == low.cast(pl.Float64)).all()
    assert 0 < guessed["accuracy_after"].mean() < 1


def test_the_valid_split_is_not_tuned_on_itself(ask):
    """Asked for the valid rows, a probe never looks at their labels before it answers."""
    asked = ask(split="valid")
    run(linear(controls=[]), asked)
    frame = people().with_columns(group=pl.when(pl.col("part") == "v").then(pl.lit("low")).otherwise("group"))
    again = ask(frame, split="valid")
    run(linear(controls=[]), again)
    before, after = asked.tables["queries-valid"], again.tables["queries-valid"]
    low = before.join(after, on="query", suffix="_after").filter(pl.col("targets") == pl.col("targets_after"))
    assert len(low) > 5
    assert (low["accuracy"] == low["accuracy_after"]).all()


def test_a_class_that_training_never_saw_is_a_miss(ask):
    frame = people().with_columns(group=pl.when(pl.col("part") == "t").then(pl.lit("new")).otherwise("group"))
    found = run(linear(), ask(frame))
    assert all(found[model, "accuracy"].value == 0 for model in ("model", *CHEAP))


def test_limits_take_the_same_rows_every_time(ask):
    found = [run(linear(controls=[], max_train=50), ask(max_queries=20)) for _ in range(2)]
    assert found[0] == found[1]
    assert all(e.n == 20 for e in found[0].values())


def test_without_valid_rows_a_part_of_the_train_rows_decides(ask):
    frame = people().with_columns(part=pl.when(pl.col("part") == "v").then(pl.lit("r")).otherwise("part"))
    assert run(linear(), ask(frame))["raw", "accuracy"].value > 0.75


def test_several_probes_keep_tables_of_their_own_and_can_be_compared(ask, tmp_path):
    def probes(data):
        data["evaluate"] = [{"use": use, "label": "group", "tower": "person", "controls": CHEAP} for use in ("linear_probe", "knn_probe")]

    asked = ask(change=probes)
    folder = RunFolder.create(tmp_path, "people", 4)
    context = asked.context
    found = evaluate_run(asked.plan, context.model, context.store, split="test", folder=folder)
    assert {"accuracy", "knn_probe/accuracy"} <= set(means(found))
    frames = {name: pl.read_parquet(folder.path / f"{name}.parquet") for name in ("queries-test", "queries-test-knn_probe")}
    for evaluator, frame in zip(("linear_probe", "knn_probe"), frames.values(), strict=True):
        mine = frame.filter(pl.col("model") == "model")
        told = next(e.value for e in found if e.evaluator == evaluator and e.model == "model" and e.metric == "accuracy")
        assert mine["accuracy"].mean() == pytest.approx(told)


def test_wrong_questions_are_refused_in_one_sentence(ask, monkeypatch):
    for options, message in {
        ("label", "town"): r"label = 'town' has role feature; set fields.town.role = 'label'",
        ("label", "amount"): r"is of type number, and task = 'classification' wants a category: set task = 'regression'",
        ("task", "regression"): r"is of type category, and task = 'regression' wants a number: set task = 'classification'",
    }.items():
        with pytest.raises(UsageError, match=message):
            run(linear(**dict([options])), ask())
    with pytest.raises(DataError, match="has one value only among the train rows"):
        run(linear(), ask(people().with_columns(group=pl.lit("one"))))
    with pytest.raises(DataError, match="has no test row with a label 'group'"):
        run(linear(), ask(people().filter(pl.col("part") != "t")))
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(UsageError, match=r'pip install "embedkit\[sklearn\]"'):
        run(linear(), ask())


def test_a_diverged_model_is_refused(ask):
    asked = ask()
    with torch.no_grad():
        next(asked.context.model.heads["person"].parameters()).fill_(torch.nan)
    with pytest.raises(DataError, match="tower 'person': an embedding is not finite"):
        run(linear(), asked)


def test_numbers_of_all_sizes_are_no_nan(ask):
    frame = people().with_columns(height=pl.when(pl.col("part") == "r").then(1e300).otherwise(-1e300))
    assert all(np.isfinite(e.value) for e in run(linear(), ask(frame)).values())
