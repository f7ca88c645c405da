"""embedkit's own model in the study: the run file, with the options of a search space changed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
from problem import METRICS, TUNED_ON

from embedkit.bundle import load_bundle
from embedkit.data.store import Store
from embedkit.evaluate.metrics import Floats
from embedkit.evaluate.run import evaluate_run, means
from embedkit.host import Host
from embedkit.launch import prepare
from embedkit.runs import RunFolder
from embedkit.training.run import train_run


def train(run: Path, out: Path, host: Host, options: Mapping[str, Any], seed: int) -> RunFolder:
    """Train the run file with some options changed."""
    launch = prepare(run, host, overrides=settings(options), seed=seed)
    folder = launch.create_folder(out)
    train_run(launch.plan, folder, host, log=print)
    return folder


def settings(options: Mapping[str, Any]) -> Sequence[str]:
    """Options of a search space as ``--set`` takes them; a list is set as a whole."""
    return [f"{key}={json.dumps(value)}" for key, value in options.items()]


def validation(folder: RunFolder, run: Path, host: Host, options: Mapping[str, Any], seed: int) -> float:
    """The figure that is tuned on, of the trained bundle on the validation queries."""
    plan = prepare(run, host, overrides=settings(options), seed=seed).plan
    bundle = load_bundle(folder.bundle, host.registry)
    store = Store.open(plan)
    store.use(bundle.codecs)
    return means(evaluate_run(plan, bundle.model, store, split="valid", quick=True))[TUNED_ON]


def per_query(folder: RunFolder) -> Floats:
    """``METRICS`` of each test query, [Q, 2], as the run's evaluation kept them."""
    frame = pl.read_parquet(folder.queries("test")).filter(pl.col("model") == "model")
    return frame.select(METRICS).to_numpy()
