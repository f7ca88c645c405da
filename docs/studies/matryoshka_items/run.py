"""Matryoshka for items: recall@20 of nested widths against separately trained small models and against PCA of the full one.

    embedkit data get movielens_1m --out data/movielens_1m
    python docs/studies/matryoshka_items/run.py data/movielens_1m/run.toml --out study

A run that is there already is not repeated, and one that was stopped goes on. Writes ``results.md`` and ``results.json``; figures a query
lie in ``figures/``. A quick look: ``--seeds 1 --set stages.0.epochs=1`` with another ``--out``.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from measure import METRIC, Trained

import embedkit
from embedkit.config.plan import ModelSpec
from embedkit.errors import UsageError, told
from embedkit.evaluate.estimate import Difference, difference, interval
from embedkit.evaluate.metrics import Floats
from embedkit.files import atomic_write
from embedkit.host import Host
from embedkit.launch import prepare
from embedkit.runs import list_runs
from embedkit_itemrec.configs_retrieval import RetrievalConfig

SHARES = (1, 2, 4, 8, 16)
MARGIN = 0.005
"""What counts as level: half a point of recall."""


@dataclass(frozen=True)
class Arm:
    """One model: its name, what it changes of the run file, and the widths at which it is measured."""

    name: str
    changes: tuple[str, ...]
    widths: tuple[int, ...]


@dataclass(frozen=True)
class Claim:
    """Matryoshka minus ``rival`` is above ``least`` at some shares of the width; said before the run."""

    text: str
    rival: str
    shares: tuple[int, ...]
    least: float

    def verdict(self, found: Mapping[int, Difference]) -> str:
        """By the 95% intervals, one a share: holds if all lie above ``least``, fails if one lies below it."""
        if all(one.low[0] > self.least for one in found.values()):
            return "holds"
        return "fails" if any(one.high[0] < self.least for one in found.values()) else "undecided"


CLAIMS = (
    Claim("nesting costs at most half a point at the whole width", "full", (1,), -MARGIN),
    Claim("at each smaller width it is at most half a point behind a model trained for that width", "small", (2, 4, 8, 16), -MARGIN),
    Claim("at 1/8 and 1/16 of the width it is better than PCA of the full model", "pca", (8, 16), 0.0),
)


def arms(spec: ModelSpec, narrow: bool, weights: Sequence[float] | None = None) -> list[Arm]:
    """What is trained. All arms have the run file's model under one linear map a tower, with its bias or without. ``weights``: what each
    nested width counts, ascending."""
    if spec.dim % SHARES[-1]:
        raise UsageError(f"model.dim is {spec.dim}, and the study cuts it into {SHARES[-1]} parts; --set model.dim to a multiple of that")
    widths = tuple(spec.dim // share for share in SHARES)

    def heads(use: str, size: str) -> tuple[str, ...]:
        found = []
        for tower, head in spec.heads.items():
            bias = getattr(head.config, "bias", False) and not getattr(head.config, "identity", False)
            found.append(f'model.heads.{tower}={{ use = "{use}", {size}, bias = {str(bias).lower()} }}')
        return tuple(found)

    weighed = () if weights is None else (f"stages.0.losses.0.prefix_weights={list(weights)}",)
    nested = heads("matryoshka", f"dims = {sorted(widths)}")
    found = [
        Arm("matryoshka", (*nested, *weighed, "evaluate.0.prefixes=true"), widths),
        Arm("full", heads("linear", f"dim = {widths[0]}"), widths),
        *(Arm(f"small-{width}", heads("linear", f"dim = {width}"), (width,)) for width in widths[1:]),
    ]
    if narrow:
        found += [Arm(f"narrow-{w}", (f"model.dim={w}", *heads("linear", f"dim = {w}")), (w,)) for w in widths[1:]]
    return found


class Study:
    """Runs by arm and seed, and what is known of each."""

    def __init__(self, run: Path, out: Path, changes: Sequence[str], threads: int, weights: Sequence[float] | None = None) -> None:
        out.mkdir(parents=True, exist_ok=True)
        self.run, self.out, self.host = run, out, Host.load()
        self.changes = ["evaluate.0.baselines=[]", "evaluate.0.slices=[]", f"compute.threads={threads}", *changes]
        self.path = out / "results.json"
        self.results: dict[str, Any] = {"run": run.read_text(), "set": self.changes, "prefix_weights": weights, "runs": {}}
        if self.path.exists():
            found = json.loads(self.path.read_text())
            if any(found.get(key) != self.results[key] for key in ("run", "set", "prefix_weights")):
                raise UsageError(f"{self.path}: is of another run file or other options; give another --out or the same options")
            self.results = found

    def spec(self) -> ModelSpec:
        """The run file's model; its first evaluator must be one that the study can ask."""
        plan = prepare(self.run, self.host, overrides=self.changes).plan
        if not plan.evaluators or not isinstance(plan.evaluators[0].config, RetrievalConfig):
            raise UsageError(f"{self.run}: the first [[evaluate]] must be retrieval, which says what is asked; put it first")
        return plan.model

    def train(self, arm: Arm, seed: int) -> None:
        """Train one arm with one seed, or go on with it, and measure it."""
        name = f"{arm.name}-{seed}"
        if name in self.results["runs"]:
            return
        print(f"{name}:", flush=True)
        folder, began, cpu = self.out / "runs" / name, time.perf_counter(), time.process_time()
        started = list_runs(folder)
        if not started:
            embedkit.train(self.run, folder, overrides=[*arm.changes, *self.changes], seed=seed, host=self.host, log=print)
        elif started[-1].state != "finished":
            embedkit.train(started[-1].path, folder, resume=True, host=self.host, log=print)
        run = list_runs(folder)[-1]
        known: dict[str, Any] = {
            "folder": str(run.path.relative_to(self.out)),
            "seconds": round(time.perf_counter() - began, 1),
            "cpu_seconds": round(time.process_time() - cpu, 1),
            "resumed": bool(started),
        }
        valid = [line for line in map(json.loads, run.metrics.read_text().splitlines()) if line["kind"] == "valid"]
        if valid:
            known |= {"epochs": valid[-1]["epoch"], "valid": {valid[0]["metric"]: max(line["value"] for line in valid)}}
        self.results["runs"][name] = known | self._measure(run.path, name, arm)
        atomic_write(self.path, json.dumps(self.results, indent=1) + "\n")

    def _measure(self, run: Path, name: str, arm: Arm) -> dict[str, Any]:
        """Recall of the test queries into ``figures/``; how PCA is done best is asked of the validation queries alone."""
        trained, told = Trained(run, self.host), dict[str, Any]()
        columns = trained.cuts("test", arm.widths)
        if arm.name == "full":
            tried = trained.choose_pca(arm.widths[1:])
            chosen = {width: next(iter(values)) for width, values in tried.items()}
            columns |= trained.pca("test", chosen) | trained.popularity("test")
            told = {"pca": {str(width): {"chosen": chosen[width], "valid": values} for width, values in tried.items()}}
        trained.write(self.figures(name), "test", columns)
        return {METRIC: {column: float(values.mean()) for column, values in columns.items()}} | told

    def figures(self, name: str) -> Path:
        """Figures a query of a run."""
        return self.out / "figures" / f"{name}.parquet"

    def values(self, arm: str, column: str, seeds: int) -> Floats:
        """``METRIC`` of every test query, [S, Q, 1]."""
        tables = [pl.read_parquet(self.figures(f"{arm}-{seed}"), columns=[column]) for seed in range(seeds)]
        return np.stack([table.to_numpy() for table in tables])


class Report:
    """Tables in Markdown: figures with 95% intervals over users, crossed with seeds, and paired differences."""

    def __init__(self, study: Study, arms: Sequence[Arm], seeds: int) -> None:
        self.study, self.seeds, self.arms = study, seeds, arms
        self.widths = arms[0].widths
        self.narrow = any(arm.name.startswith("narrow") for arm in arms)
        self.users = pl.read_parquet(study.figures("full-0"), columns=["user"])["user"].to_numpy()

    def text(self) -> str:
        """Everything, in the order in which one wants to read it."""
        parts = [self._figures(), self._differences(), self._claims(), self._pca(), self._runs(), self._notes()]
        return "\n\n".join("\n".join(part) for part in parts) + "\n"

    def _of(self, way: str, width: int) -> Floats:
        """[S, Q, 1] of one way to have vectors of a width."""
        arm = f"{way}-{width}" if way in ("small", "narrow") and width < self.widths[0] else way
        if way in ("pca", "truncated", "small", "narrow") and arm == way:
            arm = "full"
        column = f"pca {width}" if way == "pca" else f"cut {width}"
        return self.study.values(arm, column, self.seeds)

    @property
    def _ways(self) -> dict[str, str]:
        narrow = {"narrow": "separately trained, narrow throughout"} if self.narrow else {}
        return {"small": "separately trained", **narrow, "pca": "PCA of full", "truncated": "truncated full"}

    def _figures(self) -> list[str]:
        names = {"matryoshka": "matryoshka", **self._ways}
        lines = [f"| width | {' | '.join(names.values())} |", "|---" * (1 + len(names)) + "|"]
        for share, width in zip(SHARES, self.widths, strict=True):
            there = [way for way in names if share > 1 or way in ("matryoshka", "small")]
            cells = {way: interval(self._of(way, width), seed=0, users=self.users).cells()[0] for way in there}
            lines.append(f"| {_width(width, share)} | {' | '.join(cells.get(way, '') for way in names)} |")
        return lines

    def _apart(self, rival: str, share: int) -> Difference:
        """Matryoshka minus a rival."""
        width = self.widths[SHARES.index(share)]
        return difference(self._of(rival, width), self._of("matryoshka", width), seed=0, users=self.users)

    def _differences(self) -> list[str]:
        lines = [f"| width | {' | '.join(f'matryoshka − {name}' for name in self._ways.values())} |"]
        lines.append("|---" * (1 + len(self._ways)) + "|")
        for share, width in zip(SHARES, self.widths, strict=True):
            cells = [self._apart(way, share).cells("+.4f")[0] if share > 1 or way == "small" else "" for way in self._ways]
            lines.append(f"| {_width(width, share)}, paired | {' | '.join(cells)} |")
        return lines

    def _claims(self) -> list[str]:
        lines = ["| claim | verdict |", "|---|---|"]
        for claim in CLAIMS:
            found = {share: self._apart(claim.rival, share) for share in claim.shares}
            lines.append(f"| {claim.text} | {claim.verdict(found)} |")
        return lines

    def _pca(self) -> list[str]:
        """How PCA was done, by width: what was best on validation for each seed."""
        runs = [self.study.results["runs"][f"full-{seed}"]["pca"] for seed in range(self.seeds)]
        lines = ["| width | PCA that was best on validation, by seed |", "|---|---|"]
        return lines + [f"| {width} | {'; '.join(run[str(width)]['chosen'] for run in runs)} |" for width in self.widths[1:]]

    def _runs(self) -> list[str]:
        lines = ["| model | epochs | seconds | CPU seconds | best on validation, by seed |", "|---|---|---|---|---|"]
        for arm in self.arms:
            runs = [self.study.results["runs"][f"{arm.name}-{seed}"] for seed in range(self.seeds)]
            whole = [run for run in runs if not run["resumed"]]
            spent = [f"{np.median([run[key] for run in whole]):.0f}" if whole else "" for key in ("seconds", "cpu_seconds")]
            epochs = ", ".join(f"{run['epochs']:g}" for run in runs if "epochs" in run)
            valid = ", ".join(f"{value:.4f}" for run in runs for value in run.get("valid", {}).values())
            lines.append(f"| {arm.name} | {epochs} | {' | '.join(spent)} | {valid} |")
        return lines

    def _notes(self) -> list[str]:
        popular = interval(self.study.values("full", "popularity", 1), seed=0, users=self.users).cells()[0]
        size = f"{len(self.users):,} queries, seeds 0 to {self.seeds - 1}" if self.seeds > 1 else f"{len(self.users):,} queries, seed 0"
        return [f"{METRIC} of {size}; popularity: {popular}. 95% intervals over users, crossed with seeds."]


def _width(width: int, share: int) -> str:
    return f"{width} ({'whole' if share == 1 else f'1/{share}'})"


def study(options: argparse.Namespace) -> str:
    """Train what is missing, measure, and write the report."""
    runs = Study(options.run, options.out, options.set, options.threads, options.prefix_weights)
    found = arms(runs.spec(), options.narrow, options.prefix_weights)
    for seed in range(options.seeds):
        for arm in found:
            runs.train(arm, seed)
    text = Report(runs, found, options.seeds).text()
    atomic_write(options.out / "results.md", text)
    return text


@told()
def main() -> None:
    """Run the study."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="run file whose first evaluator is retrieval, such as movielens_1m's or online_retail's")
    parser.add_argument("--out", type=Path, required=True, help="folder for runs and results")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--narrow", action="store_true", help="also train small models whose tables and trunk are as narrow as the vectors")
    parser.add_argument(
        "--prefix-weights", type=float, nargs=len(SHARES), help="what each nested width counts, ascending; all alike by default"
    )
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change every arm, such as stages.0.epochs=1")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(study(options))


if __name__ == "__main__":
    main()
