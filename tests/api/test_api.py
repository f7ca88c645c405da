"""The Python interface, from a run file to answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest

import embedkit
from embedkit import api
from embedkit.bundle import Bundle
from embedkit.errors import DataError, UsageError
from embedkit.testing.shop import run_config, write_tables


def test_encode_takes_every_kind_of_frame(bundle: Bundle, shop: Path) -> None:
    model = embedkit.load(bundle.path)
    frame = pl.read_parquet(shop / "items-0.parquet")
    vectors = model.encode(frame)
    assert vectors.shape == (150, 16)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    others = [pd.read_parquet(shop / "items-0.parquet"), frame.to_arrow(), frame.to_dicts(), frame.to_dict(as_series=False)]
    for other in others:
        np.testing.assert_allclose(model.encode(other), vectors, atol=1e-6)
    np.testing.assert_allclose(model.encode(frame, batch_size=7), vectors, atol=1e-5)
    assert "shop" in repr(model)
    assert model.space == bundle.spaces["item"]


def test_prefixes_are_cut_and_normalised(bundle: Bundle, shop: Path) -> None:
    model = embedkit.load(bundle.path)
    frame = pl.read_parquet(shop / "items-0.parquet")
    full, short = model.encode(frame), model.encode(frame, prefix=4)
    np.testing.assert_allclose(short, full[:, :4] / np.linalg.norm(full[:, :4], axis=1, keepdims=True), atol=1e-6)
    with pytest.raises(UsageError, match="prefix 5: .* prefixes 4, 8, 16"):
        model.encode(frame, prefix=5)


def test_encode_with_the_other_tower_and_with_missing_columns(bundle: Bundle) -> None:
    model = embedkit.load(bundle.path)
    assert model.encode({"history": [["item-1"], []]}, tower="user").shape == (2, 16)
    with pytest.raises(DataError, match="column 'brand' of field 'brand' is missing"):
        model.encode([{"item_id": "x", "title": "y", "price": 1.0}])
    assert model.encode([{"title": "y"}], partial=True).shape == (1, 16)
    assert model.encode(pl.DataFrame(schema=dict.fromkeys(["item_id", "title", "brand"], pl.String) | {"price": pl.Float64})).shape == (
        0,
        16,
    )


def test_from_a_run_to_answers(tmp_path: Path) -> None:
    write_tables(tmp_path, items=120, users=30)
    stage = {
        "use": "train",
        "steps": 3,
        "streams": {"main": {"table": "events", "rows": "events", "size": 32}},
        "losses": [{"use": "sampled_softmax", "query": "user", "target": "item"}],
    }
    config = run_config(stages=[stage])
    result = embedkit.train(config, tmp_path / "runs", base=tmp_path)
    assert result.bundle.is_dir()
    manifest = api.embed(result.bundle, tmp_path / "e")
    assert manifest.rows == 120
    built = api.build_index(tmp_path / "e", tmp_path / "i")
    assert built.meta.backend["use"] == "hnsw:exact"
    assert api.neighbours(tmp_path / "i", tmp_path / "n.parquet", k=2) == 240
    assert api.recommend(tmp_path / "i", tmp_path / "r.parquet", k=2).rows == 60
    found = embedkit.open_index(tmp_path / "i").search([{"title": "red shirt"}], k=5, where="price < 30")
    assert found.ids.shape == (1, 5)
    run = embedkit.train(result.folder.path, resume=True)
    assert run.bundle == result.bundle


def test_bad_run_files_are_refused_before_anything_is_made(tmp_path: Path) -> None:
    write_tables(tmp_path, items=20, users=4)
    data = run_config().model_dump(mode="json", by_alias=True, exclude_none=True)
    with pytest.raises(UsageError, match="did you mean"):
        embedkit.train(data | {"towerz": {}}, tmp_path / "runs", base=tmp_path)
    with pytest.raises(UsageError, match="resume wants the folder"):
        embedkit.train(data, tmp_path / "runs", resume=True)
    assert not (tmp_path / "runs").exists()
