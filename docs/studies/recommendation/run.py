"""Compare embedkit with popularity, item-kNN, ALS and BPR on one run file's data, split and protocol.

    embedkit data get movielens_1m --out data/movielens_1m
    python docs/studies/recommendation/run.py data/movielens_1m/run.toml --space docs/studies/recommendation/movielens_1m.toml --out study

Every model gets the same number of trials, drawn at random from its search space and judged by NDCG@20 of the validation queries; the
best is trained with three seeds and measured once on the test queries. No model is fitted on validation events; a test history
holds them. Results are written to ``results.json`` and ``results.md``; trials that are already in ``results.json`` are not repeated.
"""

from __future__ import annotations

import argparse
import json
import random
import time
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ours import per_query, train, validation
from problem import METRICS, TUNED_ON, Problem
from rivals import RIVALS

from embedkit.errors import told
from embedkit.evaluate.estimate import difference, interval
from embedkit.evaluate.metrics import Floats
from embedkit.files import atomic_write
from embedkit.host import Host
from embedkit.launch import prepare

Space = Mapping[str, list[Any]]


def draws(space: Space, trials: int, seed: int = 0) -> list[dict[str, Any]]:
    """Distinct random points of a search space; all of them where there are fewer."""
    total = int(np.prod([len(values) for values in space.values()])) if space else 1
    generator, found = random.Random(seed), []
    while len(found) < min(trials, total):
        point = {key: generator.choice(values) for key, values in space.items()}
        if point not in found:
            found.append(point)
    return found


class Study:
    """Results so far, kept after every trial."""

    def __init__(self, out: Path) -> None:
        out.mkdir(parents=True, exist_ok=True)
        self.path = out / "results.json"
        self.results: dict[str, Any] = json.loads(self.path.read_text()) if self.path.exists() else {"models": {}}

    def of(self, model: str) -> dict[str, Any]:
        """What is known of a model."""
        found: dict[str, Any] = self.results["models"].setdefault(model, {"trials": [], "seeds": []})
        return found

    def keep(self) -> None:
        """Write ``results.json``."""
        atomic_write(self.path, json.dumps(self.results, indent=1) + "\n")


def rival(name: str, problem: Problem, study: Study, trials: int, seeds: int) -> Floats:
    """Tune and measure one rival: [S, Q, 2] on test."""
    fit, space, seeded = RIVALS[name]
    known = study.of(name)
    for options in draws(space, trials):
        if any(trial["options"] == options for trial in known["trials"]):
            continue
        began = time.perf_counter()
        score = fit(problem, options, 0)
        seconds = time.perf_counter() - began
        value = float(problem.measure(score, "valid")[:, METRICS.index(TUNED_ON)].mean())
        known["trials"].append({"options": options, "valid": value, "fit_seconds": round(seconds, 1)})
        print(f"{name}: valid {TUNED_ON} {value:.4f} with {options} ({seconds:.1f} s)", flush=True)
        study.keep()
    best = max(known["trials"], key=lambda trial: trial["valid"])
    return np.stack([problem.measure(fit(problem, best["options"], seed), "test", seed) for seed in range(seeds if seeded else 1)])


def ours(run: Path, space: Space, study: Study, host: Host, trials: int, seeds: int) -> Floats:
    """Tune and measure embedkit: [S, Q, 2] on test."""
    known, out = study.of("embedkit"), study.path.parent
    for options in draws(space, trials):
        if any(trial["options"] == options for trial in known["trials"]):
            continue
        began = time.perf_counter()
        folder = train(run, out / "trials", host, options, 0)
        seconds = time.perf_counter() - began
        known["trials"].append({"options": options, "valid": validation(folder, run, host, options, 0), "fit_seconds": round(seconds, 1)})
        study.keep()
    best = max(known["trials"], key=lambda trial: trial["valid"])
    return np.stack([per_query(train(run, out / "runs", host, best["options"], seed)) for seed in range(seeds)])


def report(values: Mapping[str, Floats], problem: Problem, study: Study) -> str:
    """The table in Markdown; figures with intervals go to ``results.json`` too."""
    users = problem.queries["test"].users
    means = {name: value.mean(axis=(0, 1)) for name, value in values.items()}
    rivals = [name for name in values if name != "embedkit"]
    lines = [f"| model | {' | '.join(METRICS)} | trials | fit (s) | options |", "|---|---|---|---|---|---|"]
    for name in sorted(values, key=lambda name: -means[name][1]):
        found = interval(values[name], seed=0, users=users)
        best = max(study.of(name)["trials"], key=lambda trial: trial["valid"])
        options = ", ".join(f"{key.rpartition('.')[2]} {value}" for key, value in best["options"].items())
        lines.append(f"| {name} | {' | '.join(found.cells())} | {len(study.of(name)['trials'])} | {best['fit_seconds']} | {options} |")
        study.of(name)["test"] = {m: [float(v[i]) for v in (found.value, found.low, found.high)] for i, m in enumerate(METRICS)}
        study.of(name)["seeds"] = [dict(zip(METRICS, map(float, one), strict=True)) for one in values[name].mean(axis=1)]
    for name in sorted(rivals, key=lambda name: -means[name][1]) if "embedkit" in values else []:
        found = difference(values[name], values["embedkit"], seed=0, users=users)
        lines.append(f"| embedkit − {name} (paired) | {' | '.join(found.cells('+.4f'))} | | | |")
    study.keep()
    size = f"{len(users):,} queries, {problem.data.items:,} items, exclude_seen = {str(problem.exclude_seen).lower()}"
    note = f"{size}; 95% intervals over users and seeds."
    return "\n".join([*lines, "", note]) + "\n"


@told()
def main() -> None:
    """Run the study."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="run file with one retrieval evaluator")
    parser.add_argument("--out", type=Path, required=True, help="folder for results and runs")
    parser.add_argument("--space", type=Path, help="TOML: option of the run file = list of values to try; the run file as it is without")
    parser.add_argument("--models", default=",".join([*RIVALS, "embedkit"]), help="comma-separated")
    parser.add_argument("--trials", type=int, default=12, help="trials a model")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    host = Host.load()
    problem, study = Problem.of(prepare(options.run, host).plan), Study(options.out)
    space = tomllib.loads(options.space.read_text()) if options.space else {}
    values = {}
    for name in options.models.split(","):
        if name == "embedkit":
            values[name] = ours(options.run, space, study, host, options.trials, options.seeds)
        else:
            values[name] = rival(name, problem, study, options.trials, options.seeds)
        table = report(values, problem, study)
        atomic_write(options.out / "results.md", table)
    print(table)


if __name__ == "__main__":
    main()
