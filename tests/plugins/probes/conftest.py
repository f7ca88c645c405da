"""A table of people: two features that tell the group and the amount, one that tells nothing, and a model that was not trained."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch

from embedkit.data.store import Store
from embedkit.evaluate.base import EvaluateContext
from embedkit.host import Host
from embedkit.launch import prepare
from embedkit.nn.model import Model

RUN = {
    "format": 1,
    "name": "people",
    "seed": 4,
    "tables": {"people": {"uri": "people.parquet", "key": "id", "split": {"by": "column", "column": "part", "valid": "v", "test": "t"}}},
    "fields": {
        "id": {"table": "people", "type": "category"},
        "town": {"table": "people", "type": "category"},
        "height": {"table": "people", "type": "number"},
        "words": {"table": "people", "type": "categories"},
        "noise": {"table": "people", "type": "number"},
        "group": {"table": "people", "type": "category", "role": "label"},
        "amount": {"table": "people", "type": "number", "role": "label"},
    },
    "towers": {"person": ["id", "town", "height", "words", "noise"]},
    "model": {"dim": 8},
}


def people(rows: int = 240, seed: int = 0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    town, height = rng.integers(0, 5, rows), rng.normal(size=rows)
    group = np.where(town < 2, "low", np.where(height > 0, "tall", "small"))
    return pl.DataFrame(
        {
            "id": [f"p{n}" for n in range(rows)],
            "town": [f"t{t}" for t in town],
            "height": np.where(rng.random(rows) < 0.05, np.nan, height),
            "words": [[f"w{t}", f"w{n % 7}"][: n % 3] for n, t in enumerate(town)],
            "noise": rng.normal(size=rows),
            "group": [g if n % 29 else None for n, g in enumerate(group)],
            "amount": 1000.0 + 10.0 * height + 3.0 * town,
            "part": [{0: "v", 1: "t", 2: "t"}.get(n % 8, "r") for n in range(rows)],
        }
    )


@pytest.fixture
def ask(tmp_path, registry):
    """A context over the people; ``change`` the run file, ``frame`` replaces the table."""

    def make(frame=None, change=lambda run: None, **context):
        import copy

        run = copy.deepcopy(RUN)
        change(run)
        (people() if frame is None else frame).write_parquet(tmp_path / "people.parquet")
        plan = prepare(run, Host.load(), base=tmp_path).plan
        store = Store.open(plan)
        store.fit()
        torch.manual_seed(1)
        model = Model(plan.model, store.codecs.stats).eval()
        tables = {}
        given = {"split": "test", "device": torch.device("cpu"), "seed": 0, "save_table": tables.__setitem__} | context
        return SimpleNamespace(context=EvaluateContext(model=model, store=store, **given), tables=tables, plan=plan)

    return make
