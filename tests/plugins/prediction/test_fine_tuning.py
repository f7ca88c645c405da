"""A label tuned on top of what was learned without it: two stages, two towers, one trunk."""

from __future__ import annotations

import copy

import numpy as np
import polars as pl
import pytest

import embedkit
from embedkit.training.report import MetricsFile

FEATURES = ["colour", "size", "weight", "depth"]
LEARN = {
    "use": "train",
    "name": "learn",
    "steps": 12,
    "streams": {"main": {"table": "rows", "size": 50}},
    "views": [{"use": "jepa_masks", "of": "main", "makes": ["context"], "tower": "row"}],
    "losses": [{"use": "t_jepa", "tower": "row", "context": "context", "width": 8, "heads": 2, "layers": 1}],
    "networks": {"teacher": {"kind": "ema", "momentum": 0.9}},
    "optimizer": {"use": "adamw", "lr": 0.01},
}
TUNE = {
    "use": "train",
    "name": "tune",
    "epochs": 4,
    "streams": {"main": {"table": "rows", "size": 50}},
    "losses": [{"use": "cross_entropy", "tower": "predict", "label": "shade"}],
    "optimizer": {"use": "adamw", "lr": 0.01},
    "validate": {"every": "epoch", "metric": "accuracy", "patience": 3},
}
FROZEN = {**TUNE, "epochs": 2, "freeze": ["encoders.*", "trunks.*"]}
LOSSES = {
    "shade": ("cross_entropy", "multiclass", 3, "accuracy"),
    "bought": ("binary_cross_entropy", "binary", 1, "log_loss"),
    "price": ("squared_error", "regression", 1, "rmse"),
}
HEADS = {"mlp": {"use": "mlp", "hidden": [16]}, "resnet": {"use": "resnet", "layers": 1, "width": 16}}


def run_file(label="shade", head="mlp", stages=(LEARN, TUNE)):
    loss, task, dim, metric = LOSSES[label]
    run = {
        "format": 1,
        "name": "rows",
        "seed": 2,
        "tables": {"rows": {"uri": "rows.parquet", "split": {"by": "column", "column": "part", "valid": "valid", "test": "test"}}},
        "fields": {name: {"table": "rows", "type": "number"} for name in FEATURES[1:]}
        | {"colour": {"table": "rows", "type": "category"}}
        | {"shade": {"table": "rows", "type": "category", "role": "label"}}
        | {name: {"table": "rows", "type": "number", "role": "label"} for name in ("bought", "price")},
        "towers": {"row": FEATURES, "predict": FEATURES},
        "model": {
            "dim": 8,
            "trunk": {"use": "feature_transformer", "layers": 1, "heads": 2, "hidden": 16, "pooling": "flatten"},
            "shared_trunks": {"predict": "row"},
            "heads": {
                "row": {"use": "linear", "identity": True, "normalize": False},
                "predict": HEADS[head] | {"dim": dim},
            },
        },
        "stages": copy.deepcopy(list(stages)),
        "evaluate": [{"use": "prediction", "tower": "predict", "label": label, "task": task, "baselines": ["constant"]}],
        "compute": {"device": "cpu", "threads": 1},
    }
    for stage in run["stages"]:
        if stage["name"] == "tune":
            stage["losses"] = [{"use": loss, "tower": "predict", "label": label}]
            stage["validate"] = stage["validate"] | {"metric": metric}
    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    rng = np.random.default_rng(0)
    rows = 600
    size, weight, depth = rng.normal(size=(3, rows))
    colour = rng.integers(0, 3, rows)
    drive = np.where(colour == 0, size, -size) + 0.5 * weight
    pl.DataFrame(
        {
            "colour": [["red", "green", "blue"][c] for c in colour],
            "size": [float(x) if i % 13 else None for i, x in enumerate(size)],
            "weight": weight,
            "depth": depth,
            "shade": [["dark", "mid", "light"][int(np.digitize(d, [-0.5, 0.5]))] if i % 17 else None for i, d in enumerate(drive)],
            "bought": (drive > 0).astype(int),
            "price": 20 + 5 * drive,
            "part": [["train", "train", "train", "valid", "test"][i % 5] for i in range(rows)],
        }
    ).write_parquet(folder / "rows.parquet")
    return folder


def train(folder, run):
    return embedkit.train(run, folder / "runs", base=folder)


def weights(result):
    return embedkit.load(result.bundle).bundle.model.state_dict()


@pytest.fixture(scope="module")
def learned(folder):
    """The run of the first stage alone, and its weights."""
    result = train(folder, run_file(stages=[LEARN]))
    return result, weights(result)


def same(first, second, start):
    names = [name for name in first if name.startswith(start)]
    assert names
    return all(bool((first[name] == second[name]).all()) for name in names)


@pytest.mark.parametrize(("label", "head"), [("shade", "mlp"), ("shade", "resnet"), ("bought", "mlp"), ("price", "resnet")])
def test_a_label_is_learned_on_a_trunk_that_is_shared(folder, label, head):
    metric = LOSSES[label][3]
    run = run_file(label, head)
    run["stages"][1]["epochs"] = 10
    result = train(folder, run)
    model, constant = (next(e.value for e in result.estimates if (e.metric, e.model) == (metric, m)) for m in ("model", "constant"))
    assert model > constant + 0.1 if metric == "accuracy" else model < 0.8 * constant


def test_learning_without_labels_leaves_the_head_of_the_label_alone(folder, learned):
    before = weights(train(folder, run_file(stages=[{**LEARN, "steps": 1, "optimizer": {"use": "adamw", "lr": 0.0}}])))
    assert same(learned[1], before, "heads.")
    assert not same(learned[1], before, "trunks.row.")
    assert not same(learned[1], before, "encoders.")


def test_tuning_starts_where_learning_ended_and_moves_the_trunk(folder, learned):
    kept, tuned = (weights(train(folder, run_file(stages=stages))) for stages in ([LEARN, FROZEN], [LEARN, TUNE]))
    for part in ("encoders.", "trunks."):
        assert same(learned[1], kept, part)
        assert not same(learned[1], tuned, part)
    assert not same(learned[1], kept, "heads.")
    assert not same(kept, tuned, "heads.")


def test_a_stage_that_keeps_its_teacher_hands_on_the_teachers_trunk(folder, learned):
    keeping = copy.deepcopy(LEARN)
    keeping["networks"]["teacher"]["keep"] = True
    teacher, tuned = (weights(train(folder, run_file(stages=stages))) for stages in ([keeping], [keeping, FROZEN]))
    assert not same(learned[1], teacher, "trunks.")
    assert same(teacher, tuned, "trunks.")
    assert same(learned[1], teacher, "heads.")


def test_the_best_validation_is_what_is_kept(folder):
    """Too large a learning rate from the second epoch on: the weights of the first come back, head and shared trunk."""
    run = run_file()
    run["stages"][1] |= {"epochs": 12, "optimizer": {"use": "adamw", "lr": {"from": 0.01, "to": 3.0, "over": "50%"}}}
    result = train(folder, run)
    lines = [one for one in MetricsFile(result.folder.metrics).records() if one["kind"] == "valid"]
    best = max(lines, key=lambda one: one["value"])
    assert best["step"] < lines[-1]["step"]
    assert len(lines) < 12, "patience ends the stage"
    again = embedkit.api.evaluate(result.folder.path, split="valid")
    (kept,) = [one.value for one in again if (one.metric, one.model) == ("accuracy", "model")]
    assert kept == pytest.approx(best["value"])


def test_labels_may_be_tuned_in_a_run_of_their_own(folder):
    """Pre-trained once by a run file that knows no label; ``init_from`` then gives the same as a second stage."""
    alone = run_file(stages=[LEARN])
    del alone["towers"]["predict"], alone["model"]["shared_trunks"], alone["model"]["heads"]["predict"], alone["evaluate"]
    for label in LOSSES:
        del alone["fields"][label]
    first = train(folder, alone)
    other = run_file(stages=[TUNE | {"epochs": 20}]) | {"init_from": str(first.bundle)}
    fresh = run_file(stages=[TUNE])
    kept = run_file(stages=[FROZEN]) | {"init_from": str(first.bundle)}
    tuned = train(folder, other)
    assert tuned.metrics["accuracy"] > 0.5
    assert not same(weights(tuned), weights(train(folder, fresh)), "trunks.")
    assert same(weights(first), weights(train(folder, kept)), "trunks.")


def test_a_killed_tuning_goes_on_to_the_same_weights(folder, monkeypatch):
    from embedkit.training.session import Session

    run = run_file(head="resnet")
    run["stages"][1] |= {"checkpoint_every": 5, "epochs": 3}
    whole = train(folder, run)
    step = Session.next_views

    def fall(session):
        if session.context.name == "tune" and session.step == 12:
            raise KeyboardInterrupt
        return step(session)

    monkeypatch.setattr(Session, "next_views", fall)
    with pytest.raises(KeyboardInterrupt):
        train(folder, run)
    monkeypatch.setattr(Session, "next_views", step)
    cut = max((folder / "runs").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    assert cut != whole.folder.path
    resumed = embedkit.train(cut, resume=True)
    assert same(weights(whole), weights(resumed), "")
