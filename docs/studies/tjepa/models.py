"""Run files of self-supervised pre-training on one table, and the same encoder untrained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tables import PARTS, Table

import embedkit
from embedkit.host import Host
from embedkit.training.report import MetricsFile

Vectors = npt.NDArray[np.float32]

OPTIONS: dict[str, Any] = {
    "objective": "t_jepa",  # or masked_cells, scarf, or untrained
    "dim": 32,
    "layers": 2,
    "heads": 4,
    "hidden": 64,
    "registers": 1,
    "number": "piecewise_linear",
    "predictor_width": 16,
    "predictor_layers": 2,
    "normalize": "token",
    "context": [0.15, 0.4],
    "target": [0.15, 0.6],
    "targets": 4,
    "hidden_cells": 0.3,
    "corrupted": 0.6,
    "temperature": 1.0,
    "momentum": 0.996,
    "keep": False,  # the teacher's weights, not the student's
    "size": 256,
    "steps": 1000,
    "lr": 1e-3,
    "tuned_size": 256,
    "tuned_epochs": 15,
    "tuned_patience": 4,
}
"""What a table may have otherwise."""


def known(options: Mapping[str, Any]) -> dict[str, Any]:
    """All options. One that ``OPTIONS`` does not know is an error: it would change nothing."""
    unknown = set(options) - set(OPTIONS)
    if unknown:
        raise SystemExit(f"there is no option {', '.join(sorted(unknown))}; there are {', '.join(OPTIONS)}")
    return OPTIONS | dict(options)


def run_file(table: Table, path: Path, options: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """A run that pre-trains on the table's train part, read from ``path``, which holds no label."""
    o = known(options)
    kinds = dict.fromkeys(table.numbers, "number") | dict.fromkeys(table.categories, "category")
    trunk = {key: o[key] for key in ("layers", "heads", "hidden", "registers")}
    return {
        "format": 1,
        "name": f"{table.name}-{o['objective']}",
        "seed": seed,
        "tables": {"rows": {"uri": str(path.resolve()), "split": {"by": "column", "column": "part", "valid": "valid", "test": "test"}}},
        "fields": {name: {"table": "rows", "type": kind} for name, kind in kinds.items()},
        "towers": {"row": list(table.features)},
        "model": {
            "dim": o["dim"],
            "encoders": [{"use": "number", "fields": list(table.numbers), "kind": o["number"]}],
            "trunk": {"use": "feature_transformer", "pooling": "flatten", **trunk},
            "head": {"use": "linear", "identity": True, "normalize": False},
        },
        "stages": [_stage(o)],
        "compute": {"device": "cpu", "threads": 1},
    }


def _stage(o: Mapping[str, Any]) -> dict[str, Any]:
    """The train stage of an objective. Untrained is one step at a learning rate of zero: every weight is as it was drawn."""
    untrained = o["objective"] == "untrained"
    steps = 1 if untrained else o["steps"]
    lr = 0.0 if untrained else {"from": o["lr"], "to": 0.0, "shape": "cosine", "warmup": "5%"}
    return {
        "use": "train",
        "steps": steps,
        "streams": {"main": {"table": "rows", "size": o["size"], "drop_last": True}},
        "optimizer": {"use": "adamw", "lr": lr, "weight_decay": 0.0},
        "log_every": max(1, steps // 40),
        **{"masked_cells": _masked_cells, "scarf": _scarf}.get(o["objective"], _t_jepa)(o),
    }


def _t_jepa(o: Mapping[str, Any]) -> dict[str, Any]:
    masks = {key: o[key] for key in ("context", "target", "targets")}
    predictor = {"width": o["predictor_width"], "layers": o["predictor_layers"], "heads": 4}
    return {
        "views": [{"use": "jepa_masks", "of": "main", "makes": ["context"], **masks}],
        "losses": [{"use": "t_jepa", "tower": "row", "context": "context", "normalize": o["normalize"], **predictor}],
        "networks": {"teacher": {"kind": "ema", "momentum": {"from": o["momentum"], "to": 1.0}, "keep": o["keep"]}},
    }


def _masked_cells(o: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "views": [{"use": "cell_masking", "of": "main", "makes": ["masked"], "share": o["hidden_cells"]}],
        "losses": [{"use": "masked_cells", "tower": "row", "view": "masked"}],
    }


def _scarf(o: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "views": [{"use": "corruption", "of": "main", "makes": ["corrupted"], "share": o["corrupted"]}],
        "losses": [
            {"use": "info_nce", "tower": "row", "views": ["main", "corrupted"], "temperature": o["temperature"], "projector": [128, 64]}
        ],
    }


def pretrain(run: Mapping[str, Any], out: Path, host: Host) -> tuple[Path, list[dict[str, Any]]]:
    """Train; the bundle, and the lines of the run's log."""
    result = embedkit.train(run, out, host=host)
    return result.bundle, MetricsFile(result.folder.metrics).records()


def vectors(bundle: Path, table: Table, host: Host) -> dict[str, Vectors]:
    """Encode every part of the table: part → float32 [rows, features * dim]."""
    model = embedkit.load(bundle, host=host)
    return {part: model.encode(table.part(part)[0]) for part in PARTS}
