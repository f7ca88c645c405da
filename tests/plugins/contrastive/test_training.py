"""The losses in a run: they train, and nothing of them is left in the bundle."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest

import embedkit

VIEWS = [{"use": "corruption", "of": "main", "makes": ["a", "b"], "share": 0.3}]
MIXED = [*VIEWS, {"use": "mixup", "of": "a", "makes": ["m"], "other": "b"}]
LOSSES = {
    "info_nce": (VIEWS, {"use": "info_nce", "tower": "row", "views": ["a", "b"], "projector": [16, 8]}),
    "scarf": (VIEWS, {"use": "info_nce", "tower": "row", "views": ["main", "a"]}),
    "barlow_twins": (VIEWS, {"use": "barlow_twins", "tower": "row", "views": ["a", "b"], "projector": [16, 16]}),
    "mixed_barlow_twins": (
        MIXED,
        {"use": "mixed_barlow_twins", "tower": "row", "views": ["a", "b"], "mixed": "m", "projector": [16, 16]},
    ),
}


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 4, 160)
    pl.DataFrame(
        {
            "kind": [f"k{k}" for k in kind],
            "size": kind + 0.1 * rng.normal(size=160),
            "weight": -kind + 0.1 * rng.normal(size=160),
            "tags": [[f"t{k}", f"t{k + 1}"][: n % 3] for n, k in enumerate(kind)],
        }
    ).write_parquet(tmp_path / "rows.parquet")
    return tmp_path


def run(loss, views):
    types = {"kind": "category", "size": "number", "weight": "number", "tags": "categories"}
    return {
        "format": 1,
        "name": "rows",
        "tables": {"rows": {"uri": "rows.parquet"}},
        "fields": {name: {"table": "rows", "type": kind} for name, kind in types.items()},
        "towers": {"row": list(types)},
        "model": {"dim": 8},
        "stages": [
            {
                "use": "train",
                "epochs": 12,
                "streams": {"main": {"table": "rows", "size": 32}},
                "views": views,
                "losses": [loss],
                "optimizer": {"use": "adamw", "lr": 0.01},
                "log_every": 5,
            }
        ],
        "compute": {"device": "cpu", "threads": 1},
    }


@pytest.mark.parametrize("name", LOSSES)
def test_the_loss_falls_and_leaves_nothing_behind(folder, name):
    views, loss = LOSSES[name]
    result = embedkit.train(run(loss, views), folder / "runs", base=folder)
    lines = [json.loads(line) for line in result.folder.metrics.read_text().splitlines()]
    losses = [line["losses"]["loss"] for line in lines if line["kind"] == "train"]
    assert losses[-1] < losses[0]
    model = embedkit.load(result.bundle)
    assert not any("projector" in key for key in model.bundle.model.state_dict())
    vectors = model.encode(pl.read_parquet(folder / "rows.parquet"))
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_a_misspelt_second_view_is_found_before_training(folder):
    views = [*VIEWS, {"use": "mixup", "of": "a", "makes": ["m"], "other": "c"}]
    with pytest.raises(embedkit.UsageError, match=r"stages.0.views.1.other: there is no view 'c'"):
        embedkit.train(run(LOSSES["mixed_barlow_twins"][1], views), folder / "runs", base=folder)
