"""A small shop: items of 6 kinds, users who stay with one kind, and the first-party plugins without their entry points."""

from __future__ import annotations

import copy
from importlib import import_module
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from embedkit.host import Host
from embedkit.launch import prepare
from embedkit.registry import Owner
from embedkit.training.run import train_run

PLUGINS = ("tabular", "text", "sequence", "itemrec", "unified", "contrastive", "training", "hnsw")
ITEMS, USERS, EVENTS = 60, 90, 9


def first_party(*paths: str) -> Host:
    """A host with the first-party plugins, and one-file plugins."""
    host = Host.load(discover=False, plugins=paths, strict=True)
    for name in PLUGINS:
        host.register(import_module(f"embedkit_{name}"), Owner(name, "embedkit", "0"))
    return host


def write_shop(folder: Path, items: int = ITEMS, seed: int = 0) -> None:
    """``items.parquet`` and ``events.parquet``."""
    rng = np.random.default_rng(seed)
    kind = np.arange(items) % 6
    pl.DataFrame(
        {
            "item_id": [f"i{i}" for i in range(items)],
            "kind": [f"k{k}" for k in kind],
            "maker": [f"m{k // 2}" for k in kind],
            "tags": [[f"t{k}", f"t{(i * 7) % 5}"] for i, k in enumerate(kind)],
            "price": rng.gamma(2.0, 1.0 + kind).tolist(),
        }
    ).write_parquet(folder / "items.parquet")
    user = np.repeat(np.arange(USERS), EVENTS)
    item = (rng.integers(0, items // 6, len(user)) * 6 + (user % 6)) % items
    pl.DataFrame({"user": user, "position": np.tile(np.arange(EVENTS), USERS), "item_id": [f"i{i}" for i in item]}).write_parquet(
        folder / "events.parquet"
    )


RUN = {
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
        "kind": {"table": "items", "type": "category"},
        "maker": {"table": "items", "type": "category"},
        "tags": {"table": "items", "type": "categories"},
        "price": {"table": "items", "type": "number"},
        "history": {"table": "events", "type": "sequence", "domain": "item", "max_length": 6},
    },
    "towers": {"item": ["item_id", "kind", "maker", "tags", "price"], "user": ["history"]},
    "model": {"dim": 16, "trunks": {"user": {"use": "mean"}}, "head": {"use": "matryoshka", "dims": [8, 16]}},
    "stages": [
        {
            "use": "train",
            "steps": 24,
            "streams": {
                "main": {"table": "events", "rows": "events", "sampler": "shuffle", "size": 64},
                "ssl": {"table": "items", "sampler": "uniform", "size": 32},
            },
            "views": [{"use": "correlated_masking", "of": "ssl", "makes": ["a", "b"], "value_dropout": 0.2}],
            "losses": [
                {"use": "sampled_softmax", "query": "user", "target": "item", "temperature": 0.1},
                {"use": "info_nce", "tower": "item", "views": ["a", "b"], "weight": 0.2},
            ],
            "optimizer": {"use": "adamw", "lr": {"from": 0.01, "to": 0.001, "shape": "cosine", "warmup": 4}},
            "log_every": 6,
        }
    ],
    "compute": {"device": "cpu", "threads": 1},
}


class Shop:
    """Trains on the shop, with changes to the run file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lines: list[str] = []
        self.host = first_party()
        write_shop(folder)

    def host_with(self, *paths):
        """First-party plugins and one-file ones."""
        return first_party(*map(str, paths))

    def write(self, more=0, seed=0):
        """Write the tables again, with more items."""
        write_shop(self.folder, ITEMS + more, seed)

    def run_file(self, **stage):
        """The run file with changes to its stage; None takes a key out."""
        run = copy.deepcopy(RUN)
        run["stages"][0] |= stage
        run["stages"][0] = {key: value for key, value in run["stages"][0].items() if value is not None}
        return run

    def launch(self, run, host=None):
        """The plan and folder of a run."""
        launch = prepare(run, host or self.host, base=self.folder)
        return launch.plan, launch.create_folder(self.folder / "runs")

    def train(self, run=None, host=None, **stage):
        """A whole run."""
        plan, folder = self.launch(run or self.run_file(**stage), host)
        return train_run(plan, folder, host or self.host, log=self.lines.append)


@pytest.fixture(scope="session")
def shop_in():
    """Makes a shop in a folder that outlives a test."""
    return Shop


@pytest.fixture
def shop(tmp_path):
    return Shop(tmp_path)
