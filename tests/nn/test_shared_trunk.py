"""Two towers with one trunk: learned without labels, then tuned for a label under another head."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch

import embedkit
from embedkit.host import Host
from embedkit.launch import prepare

FIELDS = {"kind": "category", "size": "number", "weight": "number"}


def stage(name, tower, **more):
    return {
        "use": "train",
        "name": name,
        "steps": 5,
        "streams": {"main": {"table": "rows", "size": 16}},
        "views": [{"use": "corruption", "of": "main", "makes": ["a", "b"], "share": 0.2}],
        "losses": [{"use": "info_nce", "tower": tower, "views": ["a", "b"]}],
        "optimizer": {"use": "adamw", "lr": 0.01},
    } | more


def run(*stages, **model):
    return {
        "format": 1,
        "name": "rows",
        "tables": {"rows": {"uri": "rows.parquet"}},
        "fields": {name: {"table": "rows", "type": kind} for name, kind in FIELDS.items()},
        "towers": {"row": list(FIELDS), "predict": ["kind", "size"]},
        "model": {
            "dim": 8,
            "shared_trunks": {"predict": "row"},
            "heads": {"predict": {"use": "mlp", "dim": 3, "hidden": [6]}},
        }
        | model,
        "stages": list(stages),
        "compute": {"device": "cpu", "threads": 1},
    }


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    frame = {"kind": [f"k{n % 3}" for n in range(60)], "size": rng.normal(size=60), "weight": rng.normal(size=60)}
    pl.DataFrame(frame).write_parquet(tmp_path / "rows.parquet")
    return tmp_path


def train(folder, *stages):
    return embedkit.train(run(*stages), folder / "runs", base=folder)


def test_the_trunk_is_one_object_in_the_weights_once_and_comes_back_from_a_bundle(folder):
    result = train(folder, stage("learn", "row"), stage("tune", "predict"))
    loaded = embedkit.load(result.bundle)
    model = loaded.bundle.model
    assert model.trunk("predict") is model.trunk("row")
    names = [name for name in model.state_dict() if name.startswith("trunks.")]
    assert names
    assert all(name.startswith("trunks.row.") for name in names)
    assert len({id(p) for p in model.parameters()}) == len(list(model.parameters()))
    rows = pl.read_parquet(folder / "rows.parquet")
    assert loaded.encode(rows, "row").shape == (60, 8)
    assert loaded.encode(rows, "predict").shape == (60, 3)
    assert {space.dim for space in loaded.bundle.spaces.values()} == {8, 3}


def test_tuning_one_tower_moves_the_other(folder):
    rows = pl.read_parquet(folder / "rows.parquet")
    before = embedkit.load(train(folder, stage("learn", "row")).bundle)
    after = embedkit.load(train(folder, stage("learn", "row"), stage("tune", "predict")).bundle)
    assert not np.allclose(before.encode(rows, "row"), after.encode(rows, "row"))
    assert before.bundle.spaces["row"].id != after.bundle.spaces["row"].id
    heads = [one.bundle.model.heads["row"].state_dict() for one in (before, after)]
    assert all(torch.equal(a, b) for a, b in zip(heads[0].values(), heads[1].values(), strict=True))


def test_a_frozen_trunk_leaves_the_other_tower_alone(folder):
    rows = pl.read_parquet(folder / "rows.parquet")
    frozen = stage("tune", "predict", freeze=["trunks.row.*", "encoders.*"])
    before = embedkit.load(train(folder, stage("learn", "row")).bundle)
    after = embedkit.load(train(folder, stage("learn", "row"), frozen).bundle)
    assert np.array_equal(before.encode(rows, "row"), after.encode(rows, "row"))
    assert not np.allclose(before.encode(rows, "predict"), after.encode(rows, "predict"))


def test_a_warm_start_carries_the_trunk_over(folder):
    """Pre-trained in a run without the second tower, tuned in another."""
    alone = run(stage("learn", "row"))
    alone["towers"].pop("predict")
    alone["model"].pop("shared_trunks")
    alone["model"].pop("heads")
    first = embedkit.train(alone, folder / "runs", base=folder)
    second = run(stage("tune", "predict", freeze=["trunks.*", "encoders.*"])) | {"init_from": str(first.bundle)}
    tuned = embedkit.load(embedkit.train(second, folder / "runs", base=folder).bundle)
    rows = pl.read_parquet(folder / "rows.parquet")
    assert np.array_equal(embedkit.load(first.bundle).encode(rows), tuned.encode(rows, "row"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shared_trunks": {"predict": "rwo"}}, r"model.shared_trunks.predict: there is no tower 'rwo'; did you mean 'row'\?"),
        ({"shared_trunks": {"predict": "predict"}}, r"tower 'predict' has no trunk of its own to share"),
        ({"trunks": {"predict": {"use": "mean"}}}, r"tower 'predict' has a trunk of its own in model.trunks"),
        ({"shared_trunks": {"row": "predict"}}, r"field 'weight' is none of tower 'predict', whose trunk does not know it"),
    ],
)
def test_what_cannot_be_shared_is_refused(folder, change, message):
    with pytest.raises(embedkit.UsageError, match=message):
        prepare(run(stage("learn", "row"), **change), Host.load(), base=folder)
