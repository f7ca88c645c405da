"""Ratings of users for things, and whole runs that predict them."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from embedkit.host import Host
from embedkit.launch import prepare
from embedkit.training.run import train_run


class Ratings:
    """Trains on a table of (user, thing, liked)."""

    def __init__(self, folder):
        self.folder, self.host = folder, Host.load()

    def write(self, users=30, things=40, seed=0):
        """``ratings.parquet``."""
        rng = np.random.default_rng(seed)
        user, thing = rng.integers(0, users, 1200), rng.integers(0, things, 1200)
        pl.DataFrame({"user": user, "thing": thing, "liked": ((user + thing) % 2)}).write_parquet(self.folder / "ratings.parquet")

    def train(self, table_optimizer=None, init_from=None, **options):
        """A short run with an encoder of these options."""
        stage = {
            "use": "train",
            "steps": 5,
            "streams": {"main": {"table": "ratings", "size": 64}},
            "losses": [{"use": "binary_cross_entropy", "tower": "row", "label": "liked"}],
        }
        if table_optimizer:
            stage["table_optimizer"] = {"use": table_optimizer}
        run = {
            "format": 1,
            "name": "ratings",
            "tables": {"ratings": {"uri": "ratings.parquet"}},
            "fields": {
                "user": {"table": "ratings", "type": "category"},
                "thing": {"table": "ratings", "type": "category"},
                "liked": {"table": "ratings", "type": "number", "role": "label"},
            },
            "towers": {"row": ["user", "thing"]},
            "model": {
                "dim": 8,
                "encoders": [{"use": "unified_embedding", "fields": ["user", "thing"]} | options],
                "head": {"use": "linear", "dim": 1, "normalize": False},
            },
            "stages": [stage],
            "index": {"use": "exact"},
            "compute": {"device": "cpu", "threads": 1},
        }
        if init_from is not None:
            run["init_from"] = str(init_from)
        launch = prepare(run, self.host, base=self.folder)
        return train_run(launch.plan, launch.create_folder(self.folder / "runs"), self.host).bundle


@pytest.fixture
def ratings(tmp_path):
    found = Ratings(tmp_path)
    found.write()
    return found
