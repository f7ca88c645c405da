"""Does self-supervision on items help rare and unseen ones? Five arms on two data sets (Yao et al. 2021, table 2 in small).

    embedkit data get movielens_1m --out data/movielens_1m
    python docs/studies/cfm/run.py movielens_1m --data data/movielens_1m --out study

Each arm with a second loss tries the same weights with one seed; the best on the validation queries goes on with the other seeds. Results
are written to ``results.json`` and ``<data set>.md`` after every run; a study that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from embedkit.bundle import load_bundle
from embedkit.data.store import Store
from embedkit.errors import told
from embedkit.evaluate import slices
from embedkit.evaluate.estimate import difference, interval
from embedkit.evaluate.metrics import MISS, Floats, Ranks, recall
from embedkit.evaluate.run import evaluate_run, means
from embedkit.files import atomic_write
from embedkit.host import Host
from embedkit.launch import prepare
from embedkit.runs import RunFolder
from embedkit.training.run import train_run

ARMS = ("none", "spread_out", "random", "correlated", "correlated_log")
HERE = Path(__file__).parent
K = 50


def run_file(base: Mapping[str, Any], arm: str, weight: float) -> dict[str, Any]:
    """The run file of an arm: the base with its second loss."""
    run = copy.deepcopy(dict(base)) | {"name": f"{base['name']}-{arm}"}
    if arm == "none":
        return run
    stage, main = run["stages"][0], run["stages"][0]["streams"]["main"]
    items = next(iter(run["tables"][main["table"]]["join"].values()))
    logged = {"table": main["table"], "rows": "events", "size": main["size"]}
    stage["streams"]["ssl"] = logged if arm == "correlated_log" else {"table": items, "sampler": "uniform", "size": main["size"]}
    second: dict[str, Any] = {"tower": "item", "temperature": 0.1, "weight": weight}
    if arm == "spread_out":
        stage["losses"].append(second | {"use": "spread_out", "view": "ssl"})
        return run
    kind = "random_masking" if arm == "random" else "correlated_masking"
    stage["views"] = [{"use": kind, "of": "ssl", "makes": ["a", "b"], "tower": "item", "value_dropout": 0.1}]
    stage["losses"].append(second | {"use": "info_nce", "views": ["a", "b"], "symmetric": False})
    return run


class Study:
    """The runs of one data set, trained once each."""

    def __init__(self, name: str, data: Path, out: Path, steps: int | None) -> None:
        self.name, self.data, self.out, self.host = name, data, out, Host.load()
        self.base = tomllib.loads((HERE / f"{name}.toml").read_text(encoding="utf-8"))
        if steps is not None:
            stage = self.base["stages"][0]
            del stage["epochs"], stage["validate"]
            stage["steps"] = steps
        self.path = out / "results.json"
        self.results: dict[str, Any] = json.loads(self.path.read_text()) if self.path.exists() else {}
        out.mkdir(parents=True, exist_ok=True)

    def run(self, arm: str, weight: float, seed: int) -> RunFolder:
        """The finished run of an arm, trained now if it was not yet."""
        known = self.results.setdefault(self.name, {}).setdefault(f"{arm} {weight} {seed}", {})
        if "run" not in known:
            began = time.perf_counter()
            launch = prepare(run_file(self.base, arm, weight), self.host, seed=seed, base=self.data)
            folder = launch.create_folder(self.out / "runs")
            train_run(launch.plan, folder, self.host, log=print)
            known |= {
                "run": folder.path.name,
                "seconds": round(time.perf_counter() - began, 1),
                "valid": self.validation(launch.plan, folder),
            }
            self.keep()
        return RunFolder(self.out / "runs" / known["run"])

    def validation(self, plan: Any, folder: RunFolder) -> float:
        """Recall of the trained bundle on all validation queries."""
        bundle = load_bundle(folder.bundle, self.host.registry)
        store = Store.open(plan)
        store.use(bundle.codecs)
        return means(evaluate_run(plan, bundle.model, store, split="valid", quick=True))[f"recall@{K}"]

    def keep(self) -> None:
        """Write ``results.json``."""
        atomic_write(self.path, json.dumps(self.results, indent=1) + "\n")

    def frequencies(self) -> torch.Tensor:
        """Train events of each item."""
        plan = prepare(self.base, self.host, base=self.data).plan
        return Store.open(plan).frequencies(plan.schema.towers["item"].table)


def parts(folder: RunFolder, frequencies: np.ndarray) -> dict[str, tuple[Floats, np.ndarray]]:
    """Part → recall of each query that has a target in it [Q, 1], and the queries' users [Q]."""
    frame = pl.read_parquet(folder.queries("test")).filter(pl.col("model") == "model")
    lengths = frame["targets"].list.len().to_numpy()
    ranks = Ranks(frame["ranks"].explode().fill_null(MISS).to_numpy(), np.concatenate(([0], np.cumsum(lengths, dtype=np.int64))))
    targets, users = frame["targets"].explode().to_numpy(), frame["user"].to_numpy()
    masks = {
        "overall": np.ones(len(targets), bool),
        "tail (1-5)": slices.tail(frequencies, targets)["1-5"],
        "unseen": slices.cold(frequencies, targets)["yes"],
    }
    kept = {name: ranks.select(mask) for name, mask in masks.items() if mask.any()}
    return {name: (recall(some, K)[:, None], users[queries]) for name, (some, queries) in kept.items()}


def table(study: Study, arms: Mapping[str, list[RunFolder]], weights: Mapping[str, float]) -> str:
    """Recall of each arm and its paired difference to ``none``, with 95% intervals over users and seeds."""
    frequencies = study.frequencies().numpy()
    found = {arm: [parts(folder, frequencies) for folder in folders] for arm, folders in arms.items()}
    names = list(found["none"][0])
    users = {name: found["none"][0][name][1] for name in names}
    lines = [f"| arm | weight | {' | '.join(names)} |", f"|---|---|{'---|' * len(names)}"]
    for arm, seeds in found.items():
        cells = []
        for name in names:
            values = np.stack([seed[name][0] for seed in seeds])
            mean = interval(values, seed=0, users=users[name])
            (cell,) = mean.cells()
            if arm != "none":
                apart = difference(np.stack([seed[name][0] for seed in found["none"]]), values, seed=0, users=users[name])
                cell += f", {apart.cells('+.4f')[0]}"
            cells.append(cell)
        lines.append(f"| {arm} | {weights[arm] if arm != 'none' else ''} | {' | '.join(cells)} |")
    sizes = ", ".join(f"{name} {len(users[name]):,}" for name in names)
    note = f"recall@{K}, and the paired difference to none; {len(arms['none'])} seeds; queries: {sizes}."
    return "\n".join([*lines, "", note]) + "\n"


@told()
def main() -> None:
    """Run the study on one data set."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=["movielens_1m", "online_retail"])
    parser.add_argument("--data", type=Path, required=True, help="folder that `embedkit data get` wrote")
    parser.add_argument("--out", type=Path, required=True, help="folder for results and runs")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--weights", default="0.05,0.2", help="weights of the second loss that every arm tries")
    parser.add_argument("--steps", type=int, help="train for so few steps, to try the script")
    options = parser.parse_args()
    study = Study(options.name, options.data, options.out, options.steps)
    tried = [float(weight) for weight in options.weights.split(",")]
    weights, arms = {}, {}
    for arm in ARMS:
        for weight in [0.0] if arm == "none" else tried:
            study.run(arm, weight, 0)
        valid = {weight: study.results[study.name].get(f"{arm} {weight} 0", {}).get("valid", -1.0) for weight in [0.0, *tried]}
        weights[arm] = max(valid, key=lambda weight: valid[weight])
        arms[arm] = [study.run(arm, weights[arm], seed) for seed in range(options.seeds)]
        found = table(study, arms, weights)
        atomic_write(options.out / f"{options.name}.md", found)
    print(found)


if __name__ == "__main__":
    main()
