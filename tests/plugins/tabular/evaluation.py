"""A table with a label that some columns tell of, planted noise columns, and a model over it, for tests of evaluators."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import torch

import embedkit_hnsw
import embedkit_sequence
import embedkit_tabular
import embedkit_text
import embedkit_training
import embedkit_unified
from embedkit.data.store import Store
from embedkit.evaluate.base import EvaluateContext
from embedkit.launch import prepare
from embedkit.nn.model import Model
from embedkit.testing import host_with

PLUGINS = {
    "hnsw": embedkit_hnsw,
    "sequence": embedkit_sequence,
    "tabular": embedkit_tabular,
    "text": embedkit_text,
    "training": embedkit_training,
    "unified": embedkit_unified,
}


def write(folder: Path, rows: int = 1500) -> None:
    """``rows.parquet``: a strong, a middling and a weak feature, two of noise, a label, and a number that is nearly the strong feature."""
    draw = np.random.default_rng(0)
    strong, middling, weak = draw.normal(size=(3, rows))
    kind = np.where(draw.random(rows) < 0.5, "round", "square")
    label = np.where(3.0 * strong + 1.5 * middling + 0.5 * weak + 0.3 * draw.normal(size=rows) > 0, "yes", "no")
    pl.DataFrame(
        {
            "strong": strong,
            "middling": middling,
            "weak": [None if i % 10 == 0 else x for i, x in enumerate(weak)],
            "noise": draw.normal(size=rows),
            "kind": kind,
            "tags": [["a", "b"][: i % 3] for i in range(rows)],
            "label": label,
            "amount": strong + 0.1 * draw.normal(size=rows),
            "part": np.where(np.arange(rows) % 3 == 0, "test", np.where(np.arange(rows) % 3 == 1, "valid", "train")),
        }
    ).write_parquet(folder / "rows.parquet")


def context(folder: Path, scale: dict[str, float] | None = None, split="test") -> EvaluateContext:
    """An untrained mean over the features, the vectors of some fields made as long as ``scale`` says."""
    write(folder)
    numbers = ["strong", "middling", "weak", "noise"]
    run = {
        "format": 1,
        "name": "rows",
        "tables": {"rows": {"uri": "rows.parquet", "split": {"by": "column", "column": "part", "valid": "valid", "test": "test"}}},
        "fields": {name: {"table": "rows", "type": "number"} for name in [*numbers, "amount"]}
        | {"kind": {"table": "rows", "type": "category"}, "tags": {"table": "rows", "type": "categories"}}
        | {"label": {"table": "rows", "type": "category", "role": "label"}},
        "towers": {"row": [*numbers, "kind", "tags"]},
        "model": {
            "dim": 16,
            "encoders": [{"use": "number", "fields": numbers, "kind": "linear"}],
            "trunk": {"use": "mean"},
            "head": {"use": "linear", "identity": True, "normalize": False},
        },
        "stages": [],
        "compute": {"device": "cpu", "threads": 1},
    }
    run["fields"]["amount"]["role"] = "label"
    plan = prepare(run, host_with(PLUGINS), base=folder).plan
    store = Store.open(plan)
    store.fit()
    torch.manual_seed(0)
    model = Model(plan.model, store.codecs.stats).eval()
    with torch.no_grad():
        for name, factor in (scale or {}).items():
            weight = model.encoders["number"].linear[name].weight
            weight *= factor / weight.norm()
    return EvaluateContext(model, store, split, torch.device("cpu"), 0, lambda name, frame: None)
