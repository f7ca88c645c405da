"""Is one shared table better than a table a feature at equal bytes (Coleman et al. 2023)?

    python docs/studies/unified/run.py data --out study

``data`` holds the folders ``frappe`` and ``movielens_100k``. Every cell (data set, arm, budget) gets four trials, judged by AUC on the
valid rows with one seed; the best is trained with every seed and measured on the test rows. Results are written to ``results.json`` and
``results.md``; what ``results.json`` holds already is not run again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from problem import USER, prepare

import embedkit
from embedkit.bundle import load_bundle, read_meta
from embedkit.errors import told
from embedkit.evaluate.estimate import difference, interval
from embedkit.evaluate.metrics import Floats, Ints
from embedkit.files import atomic_write
from embedkit.host import Host
from embedkit.runs import RunFolder
from embedkit.tables import table_reports

DIM = 16
BUDGETS = (1.0, 0.5, 0.1)
KINDS = {
    "separate": "per_field",
    "multiplexed": "unified",
    "hashed": "hashed",
    "quotient_remainder": "quotient_remainder",
    "frequency": "frequency",
}
METRICS = ("auc", "log_loss")
HASHED = [{"lr": lr, "lookups": lookups} for lr in (0.003, 0.01) for lookups in (1, 2)]
COLLISIONLESS = [{"lr": lr} for lr in (0.0005, 0.001, 0.003, 0.01)]
"""Four trials each: rates, and with them how many narrow rows a value reads."""


@dataclass(frozen=True)
class Cell:
    """One arm at one budget on one data set."""

    data: str
    arm: str
    budget: float

    @property
    def name(self) -> str:
        """Its key in ``results.json``."""
        return f"{self.data}/{self.arm}/{self.budget:g}"

    @property
    def trials(self) -> list[dict[str, Any]]:
        """What is tried on the valid rows."""
        return COLLISIONLESS if self.arm == "collisionless" else HASHED


@dataclass(frozen=True)
class Job:
    """One run of a cell."""

    cell: Cell
    options: Mapping[str, Any]
    seed: int
    tables: Mapping[str, Any]
    values: int
    epochs: int
    out: Path


def run_file(job: Job) -> dict[str, Any]:
    """The run of a job. The seed is in the names of the domains, which salt the hashes: seeds differ in where values meet, too."""
    cell, options = job.cell, job.options
    fields = {
        name: field if field.get("role") else {**field, "domain": f"{name}-{job.seed}"} for name, field in job.tables["fields"].items()
    }
    features = [name for name, field in fields.items() if "role" not in field]
    encoder: dict[str, Any] = {"use": "embedding", "fields": features}
    if cell.arm != "collisionless":
        lookups = options["lookups"]
        rows = round(job.values * cell.budget) * lookups
        encoder = {
            "use": "unified_embedding",
            "fields": features,
            "kind": KINDS[cell.arm],
            "rows": rows,
            "lookups": lookups,
            "project": False,
        }
    baselines = ["constant", "linear"] if job.seed == 0 and cell.arm == "collisionless" else []  # once is enough
    return {
        "format": 1,
        "name": cell.name.replace("/", "-"),
        "seed": job.seed,
        "tables": job.tables["tables"],
        "fields": fields,
        "towers": {"row": features},
        "model": {
            "dim": DIM,
            "encoders": [encoder],
            "trunk": {"use": "cross", "layers": 1, "hidden": [128]},
            "head": {"use": "linear", "dim": 1, "normalize": False},
        },
        "stages": [
            {
                "use": "train",
                "epochs": job.epochs,
                "streams": {"main": {"table": "rows", "size": 512}},
                "losses": [{"use": "binary_cross_entropy", "tower": "row", "label": "label"}],
                "optimizer": {"use": "adamw", "lr": options["lr"], "weight_decay": 0.0},
                "validate": {"metric": "auc", "patience": 2, "max_queries": 100_000},
            }
        ],
        "evaluate": [{"use": "prediction", "tower": "row", "label": "label", "group": USER[cell.data], "baselines": baselines}],
        "index": {"use": "exact"},
        "compute": {"device": "cpu", "threads": 1},
    }


def train(job: Job) -> dict[str, Any]:
    """Run a job: its best AUC on the valid rows, its run folder, seconds, and what its tables cost."""
    began = time.perf_counter()
    host = Host.load()
    result = embedkit.train(run_file(job), job.out, host=host)
    valid = read_meta(result.bundle).training["stages"][0]
    (tables,) = table_reports(load_bundle(result.bundle, host.registry), host.registry)
    return {
        "options": dict(job.options),
        "seed": job.seed,
        "valid": valid["metrics"]["auc"],
        "steps": valid["steps"],
        "seconds": round(time.perf_counter() - began, 1),
        "bytes": tables.report.bytes,
        "optimizer_bytes": tables.optimizer_bytes,
        "collisions": {name: asdict(found) for name, found in tables.report.fields.items()},
        "run": result.folder.path.name,
        "test": {f"{one.model}/{one.metric}": one.value for one in result.estimates},
    }


class Study:
    """Results so far, kept after every run."""

    def __init__(self, out: Path) -> None:
        out.mkdir(parents=True, exist_ok=True)
        self.out, self.path = out, out / "results.json"
        self.results: dict[str, Any] = json.loads(self.path.read_text()) if self.path.exists() else {}

    def of(self, cell: Cell) -> dict[str, list[dict[str, Any]]]:
        """What is known of a cell."""
        found: dict[str, list[dict[str, Any]]] = self.results.setdefault(cell.name, {"trials": [], "seeds": []})
        return found

    def best(self, cell: Cell) -> dict[str, Any]:
        """The options of the trial with the best AUC on the valid rows."""
        found: dict[str, Any] = max(self.of(cell)["trials"], key=lambda trial: trial["valid"])["options"]
        return found

    def run(self, pool: ProcessPoolExecutor, jobs: Sequence[Job], phase: str) -> None:
        """Run what is not known yet; trials leave nothing but their figures."""
        todo = [
            job for job in jobs if not any(one["options"] == job.options and one["seed"] == job.seed for one in self.of(job.cell)[phase])
        ]
        for job, found in zip(todo, pool.map(train, todo), strict=True):
            if phase == "trials":
                shutil.rmtree(job.out / found.pop("run"))
                found.pop("test")  # nobody looks at the test rows before the options are chosen
            self.of(job.cell)[phase].append(found)
            atomic_write(self.path, json.dumps(self.results, indent=1) + "\n")
            print(
                f"{phase} {job.cell.name} seed {job.seed} {dict(job.options)}: valid auc {found['valid']:.4f} ({found['seconds']} s)",
                flush=True,
            )

    def values(self, cell: Cell) -> tuple[Floats, Ints]:
        """``METRICS`` as a value a row, [S, Q, m], and the user of each row, [Q]."""
        frames = [pl.read_parquet(RunFolder.open(self.out / "runs" / one["run"]).queries("test")) for one in self.measured(cell)]
        frames = [frame.filter(pl.col("model") == "model") for frame in frames]
        return np.stack([frame.select(METRICS).to_numpy() for frame in frames]), frames[0]["user"].to_numpy()

    def measured(self, cell: Cell) -> list[dict[str, Any]]:
        """The runs of the chosen options, by seed."""
        options = self.best(cell)
        return sorted((one for one in self.of(cell)["seeds"] if one["options"] == options), key=lambda one: one["seed"])


def cells(data: Sequence[str], arms: Sequence[str], budgets: Sequence[float]) -> list[Cell]:
    """Every cell; without collisions there is one budget."""
    return [Cell(d, arm, b) for d in data for arm in arms for b in ([1.0] if arm == "collisionless" else budgets)]


def verdict(low: float, high: float) -> str:
    """What an interval of multiplexed minus separate says of the claim."""
    return "holds" if low > 0 else "fails" if high < 0 else "undecided"


def report(study: Study, data: str, arms: Sequence[str], budgets: Sequence[float]) -> Iterator[str]:
    """A data set's tables in Markdown."""
    values: dict[Cell, Floats] = {}
    for cell in cells([data], arms, budgets):
        values[cell], users = study.values(cell)
    yield f"**{data}**\n"
    yield "| budget | arm | table bytes | optimiser bytes | AUC | log loss | options | first collisions (largest fields) |"
    yield "|---|---|---|---|---|---|---|---|"
    for cell, found in sorted(values.items(), key=lambda pair: (-pair[0].budget, pair[0].arm)):
        measured, one = interval(found, seed=0, users=users), study.measured(cell)[0]
        auc, loss = measured.cells()
        options = ", ".join(f"{key} {value}" for key, value in one["options"].items())
        largest = sorted(one["collisions"].items(), key=lambda pair: -pair[1]["size"])[:2]
        met = ", ".join(f"{name} {c['first']:.2f}, between {c['between']:.2f}" for name, c in largest)
        budget = "" if cell.arm == "collisionless" else f"{cell.budget:g}x"
        yield f"| {budget} | {cell.arm} | {one['bytes']:,} | {one['optimizer_bytes']:,} | {auc} | {loss} | {options} | {met} |"
    if "collisionless" in arms:
        first = study.measured(Cell(data, "collisionless", 1.0))[0]["test"]
        for name in ("linear", "constant"):
            yield f"| | {name} (baseline) | | | {first[f'{name}/auc']:.4f} | {first[f'{name}/log_loss']:.4f} | | |"
    if {"separate", "multiplexed"} <= set(arms):
        yield from claims(values, users, data, budgets)


def claims(values: Mapping[Cell, Floats], users: Ints, data: str, budgets: Sequence[float]) -> Iterator[str]:
    """Multiplexed minus separate, paired by row, over seeds; and whether the gap grows as bytes shrink."""
    yield "\n| multiplexed − separate | AUC | log loss | separate < multiplexed |"
    yield "|---|---|---|---|"
    pairs = {b: (values[Cell(data, "separate", b)], values[Cell(data, "multiplexed", b)]) for b in budgets}
    for budget, (separate, multiplexed) in pairs.items():
        found = difference(separate, multiplexed, seed=0, users=users)
        auc, loss = found.cells("+.4f")
        yield f"| {budget:g}x | {auc} | {loss} | {verdict(float(found.low[0]), float(found.high[0]))} |"
    small, large = (pairs[b][1] - pairs[b][0] for b in (min(budgets), max(budgets)))
    grown = interval(small - large, seed=0, users=users)
    auc, loss = grown.cells("+.4f")
    growing = verdict(float(grown.low[0]), float(grown.high[0]))
    yield f"| gap at {min(budgets):g}x − gap at {max(budgets):g}x | {auc} | {loss} | growing: {growing} |"


@told()
def main() -> None:
    """Run the study."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="folder that holds the prepared data sets")
    parser.add_argument("--out", type=Path, required=True, help="folder for results and runs")
    parser.add_argument("--data", default="frappe,movielens_100k", help="comma-separated")
    parser.add_argument(
        "--arms", default="separate,multiplexed,collisionless", help=f"comma-separated, of {', '.join(KINDS)}, collisionless"
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=12, help="at most; two without a better AUC end a run")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, one thread each")
    options = parser.parse_args()
    study, data, arms = Study(options.out), options.data.split(","), options.arms.split(",")
    tables = {name: prepare(name, options.source, options.out / "tables") for name in data}
    sizes = {name: vocabulary(tables[name]) for name in data}

    def job(cell: Cell, trial: Mapping[str, Any], seed: int, folder: str) -> Job:
        return Job(cell, trial, seed, tables[cell.data], sizes[cell.data], options.epochs, options.out / folder)

    every = cells(data, arms, BUDGETS)
    with ProcessPoolExecutor(options.jobs, get_context("spawn")) as pool:  # a fork would hang in locks of polars
        study.run(pool, [job(cell, trial, 0, "trials") for cell in every for trial in cell.trials], "trials")
        study.run(pool, [job(cell, study.best(cell), seed, "runs") for cell in every for seed in range(options.seeds)], "seeds")
    text = "\n\n".join("\n".join(report(study, name, arms, BUDGETS)) for name in data) + "\n"
    atomic_write(options.out / "results.md", text)
    print(text)


def vocabulary(tables: Mapping[str, Any]) -> int:
    """Codes of all fields together, the unknown ones included: the rows of collisionless tables, which are 1x."""
    frame = pl.read_parquet(tables["tables"]["rows"]["uri"]).filter(pl.col("part") == "train")
    total = 0
    for name, field in tables["fields"].items():
        if "role" not in field:
            column = frame[name].explode() if field["type"] == "categories" else frame[name]
            total += column.drop_nulls().n_unique() + 1
    return total


if __name__ == "__main__":
    main()
