"""A small shop whose users stay with one kind of item, and a run of a second on it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import tomli_w

RUN: dict[str, Any] = {
    "format": 1,
    "name": "shop",
    "seed": 5,
    "tables": {
        "items": {"uri": "items.parquet", "key": "item_id"},
        "events": {
            "uri": "events.parquet",
            "join": {"item_id": "items"},
            "user": "user",
            "position": "position",
            "split": {"by": "position", "valid": 1, "test": 1},
        },
    },
    "fields": {
        "item_id": {"table": "items", "type": "category", "domain": "item"},
        "history": {"table": "events", "type": "sequence", "domain": "item", "max_length": 6},
    },
    "towers": {"item": ["item_id"], "user": ["history"]},
    "model": {"dim": 8, "trunk": {"use": "mean"}},
    "stages": [
        {
            "use": "train",
            "steps": 24,
            "streams": {"main": {"table": "events", "rows": "events", "sampler": "shuffle", "size": 64}},
            "losses": [{"use": "sampled_softmax", "query": "user", "target": "item", "temperature": 0.1}],
            "optimizer": {"use": "adamw", "lr": 0.01},
            "validate": {"every": 6, "metric": "ndcg@5"},
            "checkpoint_every": 2,
        }
    ],
    "evaluate": [{"use": "retrieval", "query": "user", "target": "item", "k": [5], "exclude_seen": False}],
    "compute": {"device": "cpu", "threads": 1},
}
SPACE = {"stages": {"0": {"optimizer": {"lr": {"low": 1e-4, "high": 0.1, "log": True}}}}, "model.dim": [8, 16]}


def write_shop(folder: Path) -> None:
    """``items.parquet``, ``events.parquet``, ``run.toml`` and ``space.toml``."""
    random = np.random.default_rng(0)
    users, events = 60, 8
    pl.DataFrame({"item_id": [f"i{i}" for i in range(36)]}).write_parquet(folder / "items.parquet")
    user = np.repeat(np.arange(users), events)
    item = random.integers(0, 6, len(user)) * 6 + user % 6
    position = np.tile(np.arange(events), users)
    pl.DataFrame({"user": user, "position": position, "item_id": [f"i{i}" for i in item]}).write_parquet(folder / "events.parquet")
    (folder / "run.toml").write_text(tomli_w.dumps(RUN))
    (folder / "space.toml").write_text(tomli_w.dumps(SPACE))


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    write_shop(tmp_path)
    return tmp_path


@pytest.fixture
def run() -> dict[str, Any]:
    return copy.deepcopy(RUN)
