"""Run files that learn the label: perceptrons and residual perceptrons, on the row itself or on an encoder that is tuned with them."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from models import known, run_file
from tables import Table

import embedkit
from embedkit.host import Host
from embedkit.launch import prepare
from embedkit.training.run import train_run

TUNED: dict[str, tuple[str, str | None]] = {
    "mlp": ("mlp", None),
    "resnet": ("resnet", None),
    "untrained + mlp": ("mlp", "untrained"),
    "untrained + resnet": ("resnet", "untrained"),
    "t_jepa + mlp": ("mlp", "t_jepa"),
    "t_jepa + resnet": ("resnet", "t_jepa"),
}
"""Arm → what learns the label, and the encoder below it: None for the columns themselves."""
RATES = (1e-3, 3e-4)
"""Learning rates; an arm takes the one that does better on validation rows with seed 0."""
MLP = {"hidden": [256, 256], "activation": "relu", "dropout": 0.1}
RESNET = {"layers": 2, "width": 128}


def tuned_file(
    table: Table, path: Path, options: Mapping[str, Any], arm: str, rate: float, seed: int, start: Path | None
) -> dict[str, Any]:
    """A run that learns the label of the table's train part and keeps the epoch that does best on its validation part.

    Args:
        table: what it is about.
        path: its file, with the label.
        options: as of the pre-training, whose encoder must be the same.
        arm: one of ``TUNED``.
        rate: learning rate.
        seed: of all that is drawn; with that of a pre-training, the encoder is drawn as it was there.
        start: bundle whose encoder is tuned further; None to start from what is drawn.
    """
    o = known(options)
    kind, below = TUNED[arm]
    run = run_file(table, path, options, seed)
    outputs = 1 if table.regression else len(table.classes)
    run["name"] = f"{table.name}-{arm.replace(' + ', '-')}"
    run["fields"][table.label] = {"table": "rows", "type": "number" if table.regression else "category", "role": "label"}
    if below is None:
        run["towers"] = {"predict": list(table.features)}
        run["model"] = _plain(table, o, kind, outputs)
    else:
        run["towers"]["predict"] = list(table.features)
        run["model"]["shared_trunks"] = {"predict": "row"}
        head = {"use": "mlp", **MLP} if kind == "mlp" else {"use": "resnet", **RESNET}
        run["model"]["heads"] = {"row": run["model"].pop("head"), "predict": {**head, "dim": outputs}}
    run["stages"] = [_stage(table, o, rate)]
    task = "regression" if table.regression else "multiclass"
    run["evaluate"] = [{"use": "prediction", "tower": "predict", "label": table.label, "task": task, "baselines": []}]
    return run if start is None else {**run, "init_from": str(start.resolve())}


def _plain(table: Table, o: Mapping[str, Any], kind: str, outputs: int) -> dict[str, Any]:
    """Standardised numbers and one-hot categories, each through a linear map of its own, which the first layer only makes longer."""
    trunk = {"use": "mlp", "residual": False, **MLP} if kind == "mlp" else {"use": "resnet", **RESNET}
    return {
        "dim": o["dim"],
        "encoders": [{"use": "number", "fields": list(table.numbers), "kind": "linear"}],
        "trunk": trunk,
        "head": {"use": "linear", "dim": outputs, "normalize": False},
    }


def _stage(table: Table, o: Mapping[str, Any], rate: float) -> dict[str, Any]:
    loss = "squared_error" if table.regression else "cross_entropy"
    return {
        "use": "train",
        "epochs": o["tuned_epochs"],
        "streams": {"main": {"table": "rows", "size": o["tuned_size"]}},
        "losses": [{"use": loss, "tower": "predict", "label": table.label}],
        "optimizer": {"use": "adamw", "lr": {"from": rate, "to": 0.0, "shape": "cosine", "warmup": "5%"}, "weight_decay": 1e-4},
        "validate": {"every": "epoch", "metric": "rmse" if table.regression else "accuracy", "patience": o["tuned_patience"]},
    }


def tune(run: Mapping[str, Any], out: Path, host: Host) -> tuple[float, Path]:
    """Train without looking at the test part: the best validation figure (accuracy, or mean squared error), and the bundle."""
    launch = prepare(run, host)
    result = train_run(launch.plan, launch.create_folder(out), host, evaluate=False)
    ((metric, value),) = result.stages[-1].metrics.items()
    return (value**2 if metric == "rmse" else value), result.bundle


def predict(bundle: Path, table: Table, part: str, host: Host) -> npt.NDArray[np.float64]:
    """What a bundle of ``tune`` says of the rows of a part: numbers of classes as in ``Table.part``, or values."""
    model = embedkit.load(bundle, host=host)
    outputs = model.encode(table.part(part)[0], "predict")
    codec = model.bundle.codecs[table.label]
    if table.regression:
        return codec.restore(torch.from_numpy(outputs[:, 0])).double().numpy()
    places = np.array([table.classes.index(value) for value in codec.vocabulary.values.to_pylist()], dtype=np.float64)
    return places[outputs.argmax(1)]


def forget(bundle: Path) -> None:
    """Remove the run of a bundle: dozens of them would take gigabytes."""
    shutil.rmtree(bundle.parent)
