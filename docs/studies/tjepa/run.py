"""Are T-JEPA's features of a row better than the row itself, and than those of the same encoder untrained?

    python docs/studies/tjepa/run.py --datasets DATASETS --out study [--tables adult,mnist] [--arms raw,t_jepa] [--seeds 5]

DATASETS holds a folder of Parquet files a data set (see ``tables.py``). Pre-training sees the train part without labels. A linear probe is
fitted on the train part, its strength chosen on the validation part; tuned arms learn the label on the train part and are stopped by the
validation part. Both are measured once on the test part. Whatever is done is kept in ``results.json`` and ``right/``, so an interrupted
study goes on; ``results.md`` is written after every table.
"""

from __future__ import annotations

import argparse
import json
import time
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from models import OPTIONS, pretrain, run_file, vectors
from probes import Found, boosted, linear, narrowed, raw, score
from tables import TABLES, Table
from tuned import RATES, TUNED, forget, predict, tune, tuned_file

from embedkit.errors import told
from embedkit.evaluate.estimate import difference, interval
from embedkit.files import atomic_file, atomic_write
from embedkit.host import Host

PROBED = ("raw", "boosted tree", "untrained", "scarf", "masked_cells", "t_jepa")
ARMS = (*PROBED, *TUNED)
DIFFERENCES = (
    *(("t_jepa", other) for other in ("raw", "untrained", "masked_cells", "scarf", "boosted tree")),
    *(("masked_cells", other) for other in ("untrained", "scarf")),
    ("scarf", "untrained"),
    *((f"t_jepa + {kind}", other) for kind in ("mlp", "resnet") for other in (kind, f"untrained + {kind}", "t_jepa", "boosted tree")),
)
"""What the claims are about: an arm, and what it is held against."""
REGISTERS = (0, 1, 3)
WIDTHS = (16, 32, 64, 128)
"""Numbers a row that the vectors are brought down to; a table of such vectors is what an index holds."""
LENGTHS = (25, 50, 100, 200, 400, 1000)
"""Steps of pre-training that an objective has to choose from, by the validation part."""
LEARNED = ("scarf", "masked_cells", "t_jepa")
NARROWED = ("untrained", *LEARNED)
CHOSEN = Path(__file__).parent / "options.toml"
Floats = npt.NDArray[np.float64]


class Study:
    """What is known so far."""

    def __init__(self, out: Path, options: argparse.Namespace) -> None:
        out.mkdir(parents=True, exist_ok=True)
        self.out, self.seeds, self.datasets = out, options.seeds, options.datasets
        self.path = out / "results.json"
        self.found: dict[str, Any] = json.loads(self.path.read_text()) if self.path.exists() else {}
        self.host = Host.load()
        self.chosen: Mapping[str, Any] = tomllib.loads(CHOSEN.read_text())
        quick = {"steps": options.steps, "tuned_epochs": options.epochs}
        self.always = {key: value for key, value in quick.items() if value is not None}

    def measure(self, table: Table, arm: str, seed: int, **more: Any) -> Floats:
        """One arm with one seed: what each test row gives, [Q]; from disk when it was measured before."""
        name = self.name(table, arm, seed, more)
        kept = self.out / "right" / f"{name.replace('/', '--').replace(' ', '-')}.npy"
        if "test" not in self.found.get(name, {}) or not kept.exists():
            began = time.perf_counter()
            found = self._tuned(table, arm, seed) if arm in TUNED else self._probed(table, arm, seed, more)
            kept.parent.mkdir(exist_ok=True)
            with atomic_file(kept) as beside, beside.open("wb") as file:
                np.save(file, found.right)
            seconds = round(time.perf_counter() - began, 1)
            self.keep(name, valid=found.valid, test=found.test, chosen=found.chosen, seconds=seconds)
            print(f"{name}: valid {found.valid:.4f}, test {found.test:.4f} ({seconds} s)", flush=True)
        values: Floats = np.load(kept)
        return values

    def keep(self, name: str, **found: Any) -> None:
        """Add to what is known under a name."""
        self.found[name] = {**self.found.get(name, {}), **found}
        atomic_write(self.path, json.dumps(self.found, indent=1) + "\n")

    @staticmethod
    def name(table: Table, arm: str, seed: int, more: Mapping[str, Any]) -> str:
        """What a measurement is called in ``results.json``."""
        return "/".join([table.name, arm, *(f"{key}={value}" for key, value in more.items()), str(seed)])

    def arm(self, table: Table, arm: str, **more: Any) -> Floats:
        """[S, Q, 1]; arms without a seed of their own are measured once."""
        seeds = 1 if arm in ("raw", "boosted tree") else self.seeds
        return np.stack([self.measure(table, arm, seed, **more) for seed in range(seeds)])[..., None]

    def valid(self, table: Table, arm: str, **more: Any) -> float:
        """The mean over seeds of the validation figure of an arm that was measured."""
        return float(np.mean([self.found[self.name(table, arm, seed, more)]["valid"] for seed in range(self.seeds)]))

    def options(self, table: Table, **more: Any) -> dict[str, Any]:
        """Of every run on a table."""
        return {**self.chosen.get(table.name, {}), **self.always, **more}

    def _probed(self, table: Table, arm: str, seed: int, more: Mapping[str, Any]) -> Found:
        if arm == "raw":
            return linear(table, raw(table))
        if arm == "boosted tree":
            return boosted(table)
        options = {key: value for key, value in more.items() if key != "width"}
        found = vectors(self.encoder(table, arm, seed, **options), table, self.host)
        return linear(table, narrowed(found, more["width"]) if "width" in more else found)

    def encoder(self, table: Table, arm: str, seed: int, **more: Any) -> Path:
        """The bundle of a pre-training, which is trained where it is not there."""
        name = self.name(table, arm, seed, more)
        known = self.found.get(name, {}).get("bundle")
        if known is None or not (self.out / known).exists():
            run = run_file(table, table.write(self.out / "tables"), self.options(table, objective=arm, **more), seed)
            bundle, records = pretrain(run, self.out / "runs", self.host)
            known = str(bundle.relative_to(self.out))
            lines = [one for one in records if "watch" in one]
            ends = {"start": lines[0]["watch"], "end": lines[-1]["watch"]} if lines else {}
            self.keep(name, bundle=known, **ends)
        return self.out / known

    def _tuned(self, table: Table, arm: str, seed: int) -> Found:
        """With the learning rate that did best on validation rows with seed 0; the bundles of the others are never asked."""
        fitted = {rate: self._fit(table, arm, 0, rate) for rate in RATES}
        rate = (min if table.regression else max)(fitted, key=lambda rate: fitted[rate])
        valid = self._fit(table, arm, seed, rate, bundle=True)
        bundle = self.out / self.found[self.name(table, arm, seed, {"lr": rate})]["bundle"]
        told = predict(bundle, table, "test", self.host)
        for one in {rate} if seed else RATES:
            forget(self.out / self.found[self.name(table, arm, seed, {"lr": one})]["bundle"])
        return Found(rate, valid, score(table, told, table.part("test")[1]))

    def _fit(self, table: Table, arm: str, seed: int, rate: float, *, bundle: bool = False) -> float:
        """The validation figure of a tuned arm at a learning rate; ``bundle``: train it again where its bundle is gone."""
        name = self.name(table, arm, seed, {"lr": rate})
        known = self.found.get(name, {})
        if "valid" not in known or (bundle and not (self.out / known["bundle"]).exists()):
            _, below = TUNED[arm]
            start = self.encoder(table, below, seed) if below == "t_jepa" else None
            path = table.write(self.out / "tables", labelled=True)
            options = self.options(table, objective=below or "untrained")
            began = time.perf_counter()
            run = tuned_file(table, path, options, arm, rate, seed, start)
            valid, made = tune(run, self.out / "runs", self.host)
            seconds = round(time.perf_counter() - began, 1)
            self.keep(name, valid=valid, bundle=str(made.relative_to(self.out)), seconds=seconds)
        return float(self.found[name]["valid"])


def accuracy_table(study: Study, table: Table, arms: Sequence[str]) -> list[str]:
    """A row an arm, and the paired differences that the claim is about."""
    values = {arm: study.arm(table, arm) for arm in arms}
    figure = "RMSE" if table.regression else "accuracy"
    lines = [f"### {table.name}", "", f"| features | {figure} | seeds |", "|---|---|---|"]
    for arm, one in values.items():
        around = interval(one, seed=0)
        cells = [_shown(x[0], table) for x in (around.value, around.low, around.high)]
        seeds = ", ".join(_shown(x, table) for x in one.mean(axis=(1, 2)))
        lines.append(f"| {arm} | {cells[0]} [{cells[1]}, {cells[2]}] | {seeds} |")
    pairs = [(arm, other) for arm, other in DIFFERENCES if arm in values and other in values]
    if pairs:
        lines += ["", f"| paired difference in {'squared error' if table.regression else figure} | |", "|---|---|"]
    for arm, other in pairs:
        found = difference(values[other], values[arm], seed=0)
        lines.append(f"| {arm} − {other} | {found.cells('+.4f')[0]} |")
    return [*lines, ""]


def width_table(study: Study, table: Table) -> list[str]:
    """What is left when vectors are brought down to fewer numbers, and whether learning decides which are kept."""
    lines = ["### Narrower vectors (adult)", "", f"| numbers | {' | '.join(NARROWED)} | t_jepa − untrained | t_jepa − raw |"]
    lines += ["|---" * (len(NARROWED) + 3) + "|"]
    bare = study.arm(table, "raw")
    for width in (*WIDTHS, None):
        values = {arm: study.arm(table, arm, **({} if width is None else {"width": width})) for arm in NARROWED}
        cells = [interval(one, seed=0).cells()[0] for one in values.values()]
        cells += [difference(other, values["t_jepa"], seed=0).cells("+.4f")[0] for other in (values["untrained"], bare)]
        lines.append(f"| {width or 'all'} | {' | '.join(cells)} |")
    return [*lines, ""]


def register_table(study: Study, table: Table) -> list[str]:
    """How the number of registers changes the probe and how the teacher's vectors lie."""
    lines = [
        "### Registers (adult)",
        "",
        "| registers | accuracy | effective rank, start → end | cosine | deviation |",
        "|---|---|---|---|---|",
    ]
    for registers in REGISTERS:
        more = changed(registers=registers)
        around = interval(study.arm(table, "t_jepa", **more), seed=0)
        ends: dict[str, list[dict[str, float]]] = {"start": [], "end": []}
        for seed in range(study.seeds):
            known = study.found[study.name(table, "t_jepa", seed, more)]
            for when, figures in ends.items():
                figures.extend(known[when].values())
        means = {when: {key: np.mean([one[key] for one in figures]) for key in figures[0]} for when, figures in ends.items()}
        cells = [f"{means['start'][key]:.2f} → {means['end'][key]:.2f}" for key in ("effective_rank", "cosine", "std")]
        lines.append(f"| {registers} | {around.cells()[0]} | {' | '.join(cells)} |")
    return [*lines, ""]


def length_table(study: Study, table: Table) -> list[str]:
    """What each length of pre-training comes to on validation rows, and how the best one of each objective does on test rows."""
    lines = ["### How long to pre-train (adult)", "", f"| steps | {' | '.join(f'{arm}, valid' for arm in LEARNED)} |", "|---|---|---|---|"]
    others = {arm: study.arm(table, arm) for arm in ("untrained", "raw")}
    lines.append("| 0 | " + " | ".join([f"{study.valid(table, 'untrained'):.4f}"] * len(LEARNED)) + " |")
    tried: dict[str, dict[int, tuple[float, Floats]]] = {arm: {} for arm in LEARNED}
    for steps in LENGTHS:
        more = changed(steps=steps)
        for arm, found in tried.items():
            right = study.arm(table, arm, **more)
            found[steps] = study.valid(table, arm, **more), right
        lines.append(f"| {steps} | {' | '.join(f'{found[steps][0]:.4f}' for found in tried.values())} |")
    lines += ["", f"| chosen | steps | accuracy | {' | '.join(f'− {other}' for other in others)} |", "|---|---|---|---|---|"]
    for arm, found in tried.items():
        steps = max(found, key=lambda one: found[one][0])
        right = found[steps][1]
        cells = [interval(right, seed=0).cells()[0], *(difference(other, right, seed=0).cells("+.4f")[0] for other in others.values())]
        lines.append(f"| {arm} | {steps} | {' | '.join(cells)} |")
    return [*lines, ""]


def changed(**options: Any) -> dict[str, Any]:
    """Those that are not as in ``OPTIONS``: an arm that has nothing else is measured once."""
    return {key: value for key, value in options.items() if value != OPTIONS[key]}


def _shown(value: float, table: Table) -> str:
    return f"{np.sqrt(value) if table.regression else value:.4f}"


@told()
def main() -> None:
    """Run what is not known yet, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--datasets", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--out", type=Path, required=True, help="folder for results and runs")
    parser.add_argument("--tables", default=",".join(TABLES), help="comma-separated")
    parser.add_argument("--arms", default=",".join(ARMS), help=f"comma-separated: {', '.join(ARMS)}")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, help="of every pre-training, for a quick look; keep its --out apart")
    parser.add_argument("--epochs", type=int, help="of every tuned arm, for a quick look; keep its --out apart")
    options = parser.parse_args()
    arms = options.arms.split(",")
    for what, named, there in (("arms", arms, ARMS), ("tables", options.tables.split(","), TABLES)):
        if unknown := set(named) - set(there):
            parser.error(f"--{what}: there is no {', '.join(sorted(unknown))}; there are {', '.join(there)}")
    study = Study(options.out, options)
    lines: list[str] = []
    for name in options.tables.split(","):
        table = TABLES[name](options.datasets)
        lines += accuracy_table(study, table, arms)
        if name == "adult" and {"raw", *NARROWED} <= set(arms):
            lines += [] if options.steps else length_table(study, table)
            lines += width_table(study, table)
        if name == "adult" and "t_jepa" in arms:
            lines += register_table(study, table)
        note = f"{options.seeds} seeds; 95% intervals over test rows, crossed with seeds."
        atomic_write(options.out / "results.md", "\n".join([*lines, note]) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
