"""Next-item models on leave-last-out data: arms that each change the starter run file in one way, three seeds, paired intervals.

    embedkit data get amazon_beauty --out data/amazon_beauty
    python docs/studies/sequences/run.py data/amazon_beauty/run.toml --out study --arms ids attributes

Every arm is a file of ``arms/`` with the options that it changes. A run that is there already is not repeated, and one that was stopped
goes on. Writes ``results.md`` and ``results.json``.
"""

from __future__ import annotations

import argparse
import json
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

import embedkit
from embedkit.errors import UsageError, told
from embedkit.evaluate.estimate import difference, interval
from embedkit.evaluate.metrics import Floats
from embedkit.files import atomic_write
from embedkit.runs import list_runs

ARMS = Path(__file__).parent / "arms"
METRICS = ("ndcg@10", "recall@10")


class Study:
    """Runs by arm and seed, and what is known of each."""

    def __init__(self, run: Path, out: Path, changes: Sequence[str]) -> None:
        out.mkdir(parents=True, exist_ok=True)
        self.run, self.out, self.changes = run, out, list(changes)
        self.path = out / "results.json"
        self.known: dict[str, dict[str, Any]] = json.loads(self.path.read_text()) if self.path.exists() else {}

    def train(self, arm: str, seed: int) -> None:
        """Train one arm with one seed, or go on with it."""
        name = f"{arm}-{seed}"
        if name in self.known:
            set_before = self.known[name].get("set", self.changes)
            if set_before != self.changes:
                raise UsageError(f"{self.path}: {name} ran with --set {set_before}, not {self.changes}; give the same or another --out")
            return
        folder = self.out / "runs" / name
        options = changes_of(arm)
        began = time.perf_counter()
        started = list_runs(folder)
        if not started:
            embedkit.train(self.run, folder, overrides=[*options, *self.changes], seed=seed, log=print)
        elif started[-1].state != "finished":
            embedkit.train(started[-1].path, folder, resume=True, log=print)
        run = list_runs(folder)[-1]
        lines = [json.loads(line) for line in run.metrics.read_text().splitlines()]
        valid = [line for line in lines if line["kind"] == "valid"]
        self.known[name] = {
            "folder": str(run.path.relative_to(self.out)),
            "set": self.changes,
            "seconds": round(time.perf_counter() - began, 1),
            "resumed": bool(started),
            "epochs": valid[-1]["epoch"] if valid else None,
            "valid": max((line["value"] for line in valid), default=None),
        }
        atomic_write(self.path, json.dumps(self.known, indent=1) + "\n")

    def values(self, arm: str, seeds: int, model: str = "model") -> Floats:
        """``METRICS`` of every test query, [S, Q, 2]."""
        tables = [pl.read_parquet(self.out / self.known[f"{arm}-{seed}"]["folder"] / "queries-test.parquet") for seed in range(seeds)]
        return np.stack([t.filter(pl.col("model") == model).sort("query").select(METRICS).to_numpy() for t in tables])

    def baselines(self, arm: str) -> list[str]:
        """The counting models that were measured beside an arm."""
        table = pl.read_parquet(self.out / self.known[f"{arm}-0"]["folder"] / "queries-test.parquet")
        return [name for name in table["model"].unique(maintain_order=True) if name != "model"]

    def report(self, arms: Sequence[str], seeds: int) -> str:
        """The table in Markdown: figures with 95% intervals over users, crossed with seeds, and paired differences to the first arm."""
        lines = [f"| | {' | '.join(METRICS)} | valid {METRICS[0]} | epochs | seconds |", "|---|---|---|---|---|---|"]
        first = self.values(arms[0], seeds)
        for arm in arms:
            runs = [self.known[f"{arm}-{seed}"] for seed in range(seeds)]
            whole = [run["seconds"] for run in runs if not run["resumed"]]
            told = [f"{np.mean([run['valid'] for run in runs]):.4f}", f"{np.mean([run['epochs'] for run in runs]):.0f}"]
            seconds = f"{np.median(whole):.0f}" if whole else "-"
            lines.append(f"| {arm} | {' | '.join(interval(self.values(arm, seeds), seed=0).cells())} | {' | '.join(told)} | {seconds} |")
        counted = {name: interval(self.values(arms[0], 1, name), seed=0) for name in self.baselines(arms[0])}
        lines += [f"| {name} | {' | '.join(found.cells())} | | | |" for name, found in counted.items()]
        apart = {arm: difference(first, self.values(arm, seeds), seed=0) for arm in arms[1:]}
        lines += [f"| {arm} − {arms[0]} (paired) | {' | '.join(found.cells('+.4f'))} | | | |" for arm, found in apart.items()]
        seed_means = ", ".join(f"{value:.4f}" for value in first[..., 0].mean(axis=1))
        return "\n".join([*lines, "", f"{first.shape[1]:,} users, {seeds} seeds; {METRICS[0]} of {arms[0]} by seed: {seed_means}."]) + "\n"


def arms() -> list[str]:
    """Names of the files of ``arms/``."""
    return sorted(path.stem for path in ARMS.glob("*.toml"))


def changes_of(arm: str) -> list[str]:
    """What an arm changes in the starter run file, as ``--set`` takes it."""
    return [f"{key}={_inline(value)}" for key, value in tomllib.loads((ARMS / f"{arm}.toml").read_text()).items()]


def _inline(value: Any) -> str:
    """A value as TOML in one line, as ``--set`` takes it."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_inline(one)}" for key, one in value.items()) + " }"
    return "[" + ", ".join(map(_inline, value)) + "]" if isinstance(value, list) else json.dumps(value)


@told()
def main() -> None:
    """Run the study."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="starter run file of amazon_beauty or amazon_sports")
    parser.add_argument("--out", type=Path, required=True, help="folder for runs and results")
    parser.add_argument("--arms", nargs="+", default=["ids"], choices=arms())
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change every arm, such as stages.0.epochs=2")
    options = parser.parse_args()
    study = Study(options.run, options.out, options.set)
    for seed in range(options.seeds):
        for arm in options.arms:
            study.train(arm, seed)
    table = study.report(options.arms, options.seeds)
    atomic_write(options.out / "results.md", table)
    print(table)


if __name__ == "__main__":
    main()
