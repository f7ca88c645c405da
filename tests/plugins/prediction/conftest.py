"""A table of rows with labels of every kind, and whole runs over it."""

from __future__ import annotations

import copy

import numpy as np
import polars as pl
import pytest

from embedkit.host import Host
from embedkit.launch import prepare
from embedkit.training.run import train_run

ROWS = 900
COLOURS = ["red", "green", "blue", "white"]


def write_rows(folder, rows=ROWS, seed=0):
    """``rows.parquet``: the labels depend on colour, tags and size; some are missing."""
    rng = np.random.default_rng(seed)
    colour, size = rng.integers(0, 4, rows), rng.normal(size=rows)
    tags = [sorted({int(t) for t in rng.integers(0, 6, 2)}) for _ in range(rows)]
    drive = 1.2 * (colour == 0) - 1.2 * (colour == 1) + size + np.array([0.8 if 3 in t else 0.0 for t in tags])
    clicked = (rng.random(rows) < 1 / (1 + np.exp(-drive))).astype(int)
    pl.DataFrame(
        {
            "row_id": [f"r{i}" for i in range(rows)],
            "user": rng.integers(0, 60, rows),
            "colour": [COLOURS[c] if i % 23 else None for i, c in enumerate(colour)],
            "size": [float(s) if i % 17 else None for i, s in enumerate(size)],
            "tags": tags,
            "clicked": [int(c) if i % 11 else None for i, c in enumerate(clicked)],
            "liked": [["no", "yes"][c] for c in clicked],
            "shade": [["dark", "mid", "light"][int(np.digitize(d, [-0.5, 0.8]))] for d in drive],
            "price": (50 + 10 * drive + rng.normal(size=rows)).tolist(),
            "importance": rng.random(rows).tolist(),
            "part": [["train", "train", "train", "valid", "test"][i % 5] for i in range(rows)],
        }
    ).write_parquet(folder / "rows.parquet")


RUN = {
    "format": 1,
    "name": "rows",
    "seed": 4,
    "tables": {
        "rows": {"uri": "rows.parquet", "key": "row_id", "split": {"by": "column", "column": "part", "valid": "valid", "test": "test"}}
    },
    "fields": {
        "colour": {"table": "rows", "type": "category"},
        "size": {"table": "rows", "type": "number"},
        "tags": {"table": "rows", "type": "categories"},
        "user": {"table": "rows", "type": "category", "role": "group"},
        "clicked": {"table": "rows", "type": "number", "role": "label"},
        "liked": {"table": "rows", "type": "category", "role": "label"},
        "shade": {"table": "rows", "type": "category", "role": "label"},
        "price": {"table": "rows", "type": "number", "role": "label"},
        "importance": {"table": "rows", "type": "number", "role": "weight"},
    },
    "towers": {"row": ["colour", "size", "tags"]},
    "model": {
        "dim": 8,
        "trunk": {"use": "cross", "layers": 1, "hidden": [16]},
        "head": {"use": "linear", "dim": 1, "normalize": False},
    },
    "stages": [
        {
            "use": "train",
            "epochs": 8,
            "streams": {"main": {"table": "rows", "size": 60}},
            "losses": [{"use": "binary_cross_entropy", "tower": "row", "label": "clicked"}],
            "optimizer": {"use": "adamw", "lr": 0.01},
        }
    ],
    "evaluate": [{"use": "prediction", "tower": "row", "label": "clicked"}],
    "index": {"use": "exact"},
    "compute": {"device": "cpu", "threads": 1},
}

TASKS = {
    "clicked": ("binary_cross_entropy", "binary", 1),
    "liked": ("binary_cross_entropy", "binary", 1),
    "shade": ("cross_entropy", "multiclass", 3),
    "price": ("squared_error", "regression", 1),
}


class Rows:
    """Trains on the rows."""

    def __init__(self, folder):
        self.folder, self.host = folder, Host.load()
        write_rows(folder)

    def run_file(self, label="clicked", **options):
        """The run file for a label; ``options`` go to the loss and the evaluator where they know them."""
        run = copy.deepcopy(RUN)
        loss, task, dim = TASKS[label]
        run["model"]["head"]["dim"] = dim
        both = {"tower": "row", "label": label}
        positive = {"positive": "yes"} if label == "liked" else {}
        run["stages"][0]["losses"] = [{"use": loss, **both, **positive, **options}]
        run["evaluate"] = [{"use": "prediction", **both, **positive, "task": task}]
        return run

    def plan(self, run):
        """The resolved run."""
        return prepare(run, self.host, base=self.folder).plan

    def train(self, run):
        """A whole run."""
        launch = prepare(run, self.host, base=self.folder)
        return train_run(launch.plan, launch.create_folder(self.folder / "runs"), self.host)


@pytest.fixture
def rows(tmp_path):
    return Rows(tmp_path)
