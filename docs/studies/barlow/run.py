"""Does long training spoil Barlow Twins on a table, and do mixed rows prevent it?

    python docs/studies/barlow/run.py adult/adult.parquet --label income --out study

Views are corrupted rows. A pilot of plain Barlow Twins finds the step at which its kNN accuracy on valid rows peaks; both losses are then
trained ten times as long, with equal options. Results go to ``results.json``, which test rows the neighbours get right (by the
weights of the best step, which the train stage keeps) to ``right/``, the report to ``results.md``; what is there already is not run again.
"""

from __future__ import annotations

import argparse
import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.stats import t

from embedkit.api import train
from embedkit.config.starter import write_starter
from embedkit.errors import told
from embedkit.evaluate.estimate import difference, interval
from embedkit.files import atomic_file, atomic_write
from embedkit.host import Host
from embedkit.runs import RunFolder

WIDTH = 256
"""Width of the projections."""
ARMS = ("barlow_twins", "mixed_barlow_twins")
CLAIMS = (
    "Barlow Twins ends at least 1 point below its own peak",
    "Mixed Barlow Twins does not",
    "Mixed Barlow Twins ends above Barlow Twins",
)
Floats = npt.NDArray[np.float64]


def run(table: Path, options: argparse.Namespace, host: Host, *, loss: str, steps: int, seed: int) -> dict[str, Any]:
    """The run file: what ``init --ssl`` infers of the table, with the loss, and kNN accuracy on valid rows as the curve."""
    start = options.out / "start.toml"
    write_starter([table], start, host.registry, name="barlow", force=True, ssl=True, label=options.label)
    data = tomllib.loads(start.read_text(encoding="utf-8"))
    name, tower = next(iter(data["tables"])), "row"
    features = data["towers"][tower]
    # The rows' own split may hold test rows only: the curve needs valid ones, and the test rows stay out of it.
    data["tables"][name]["split"] = {"by": "hash", "key": features, "valid": 0.2, "test": 0.2}
    views = [{"use": "corruption", "of": "main", "makes": ["a", "b"], "share": options.share}]
    used: dict[str, Any] = {"use": loss, "tower": tower, "views": ["a", "b"], "projector": [WIDTH, WIDTH], "redundancy": 1 / 128}
    if loss == "mixed_barlow_twins":
        views.append({"use": "mixup", "of": "a", "makes": ["m"], "other": "b"})
        used |= {"mixed": "m", "mixed_scale": options.scale}
    every = max(1, steps // options.points)
    stage = {
        "use": "train",
        "steps": steps,
        "streams": {"main": {"table": name, "sampler": "uniform", "size": options.batch}},
        "views": views,
        "losses": [used],
        "optimizer": {"use": "adamw", "lr": options.lr},
        "validate": {"metric": "accuracy", "every": every, "max_queries": options.queries},
        "log_every": every,
    }
    probe = {
        "use": "knn_probe",
        "label": options.label,
        "tower": tower,
        "neighbors": [20],
        "max_train": options.known,
        "controls": ["raw", "untrained"],
    }
    return data | {"seed": seed, "stages": [stage], "evaluate": [probe], "compute": {"device": options.device, "threads": options.threads}}


def curve(folder: RunFolder) -> list[tuple[int, float]]:
    """(step, kNN accuracy on valid rows)."""
    lines = [json.loads(line) for line in folder.metrics.read_text(encoding="utf-8").splitlines()]
    return [(line["step"], line["value"]) for line in lines if line["kind"] == "valid"]


def over_seeds(values: Floats) -> tuple[float, float, float]:
    """Mean over seeds, and the 95% interval of Student's t."""
    mean, error = float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))
    wide = float(t.ppf(0.975, len(values) - 1)) * error
    return mean, mean - wide, mean + wide


def report(found: dict[str, Any], right: dict[str, Floats], seeds: range) -> str:
    """The tables, and whether each claim holds for the mean over seeds.

    Args:
        found: ``arm/seed`` → curve on valid rows; ``pilot`` → step of its peak.
        right: arm or control → which test rows are right, by the weights of the best step, [seeds, rows, 1].
        seeds: of the arms.
    """
    lines = ["| valid rows | peak kNN | at step | final kNN | final − peak |", "|---|---|---|---|---|"]
    drop, final = {}, {}
    for arm in ARMS:
        curves = [np.array(found[f"{arm}/{seed}"]) for seed in seeds]
        peaks = np.array([points[:, 1].max() for points in curves])
        ends = np.array([points[-1, 1] for points in curves])
        at = ", ".join(str(int(points[points[:, 1].argmax(), 0])) for points in curves)
        drop[arm], final[arm] = over_seeds(ends - peaks), ends
        cells = [f"{mean:.4f} [{low:.4f}, {high:.4f}]" for mean, low, high in map(over_seeds, (peaks, ends, ends - peaks))]
        lines.append(f"| {arm} | {cells[0]} | {at} | {cells[1]} | {cells[2]} |")
    gap = over_seeds(final[ARMS[1]] - final[ARMS[0]])
    lines += [
        "",
        f"Mixed − plain at the end, on valid rows: {gap[0]:+.4f} [{gap[1]:+.4f}, {gap[2]:+.4f}]. Pilot peak at step {found['pilot']}.",
        "",
    ]
    lines += ["| test rows, weights of the best step | kNN accuracy |", "|---|---|"]
    for arm, values in right.items():
        around = interval(values, seed=0)
        lines.append(f"| {arm} | {around.cells()[0]} |")
    test = difference(right[ARMS[0]], right[ARMS[1]], seed=0)
    lines += ["", f"Mixed − plain on test rows: {test.cells('+.4f')[0]}.", ""]
    holds = (drop[ARMS[0]][0] <= -0.01, drop[ARMS[1]][0] > -0.01, gap[0] > 0)
    if holds[0]:
        lines += [f"- {text}: {'holds' if well else 'fails'}" for text, well in zip(CLAIMS, holds, strict=True)]
    else:
        lines += [f"- {CLAIMS[0]}: fails. The premise that Barlow Twins overfits is absent on this table, so the other claims say nothing."]
    return "\n".join(lines) + "\n"


@told()
def main() -> None:
    """Run the study."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", type=Path, help="Parquet file")
    parser.add_argument("--label", required=True, help="column with classes")
    parser.add_argument("--out", type=Path, required=True, help="folder for results and runs")
    parser.add_argument("--seeds", type=int, default=5, help="two at least")
    parser.add_argument("--pilot", type=int, default=300, help="steps of the pilot")
    parser.add_argument("--most", type=int, default=2000, help="most steps of an arm")
    parser.add_argument("--points", type=int, default=20, help="points of a curve")
    parser.add_argument("--known", type=int, default=5000, help="train rows among which neighbours are found")
    parser.add_argument("--queries", type=int, default=5000, help="valid rows of a point")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--share", type=float, default=0.3, help="cells that are corrupted")
    parser.add_argument("--scale", type=float, default=4.0, help="weight of the mixed term, times lambda")
    parser.add_argument("--lr", type=float, default=0.001)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    table, host = options.table.resolve(), Host.load()
    path = options.out / "results.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}

    def keep() -> None:
        atomic_write(path, json.dumps(found, indent=1) + "\n")

    def trained(**more: Any) -> RunFolder:
        return train(run(table, options, host, **more), options.out / "runs", base=table.parent, host=host, log=print).folder

    if "pilot" not in found:
        points = curve(trained(loss=ARMS[0], steps=options.pilot, seed=1000))
        found["pilot"] = max(points, key=lambda point: point[1])[0]
        keep()
    steps = min(options.most, 10 * found["pilot"])
    seeds = range(options.seeds)
    right: dict[str, list[Floats]] = {}
    for seed in seeds:
        for arm in ARMS:
            kept = options.out / "right" / f"{arm}-{seed}.parquet"
            if f"{arm}/{seed}" not in found:
                folder = trained(loss=arm, steps=steps, seed=seed)
                kept.parent.mkdir(exist_ok=True)
                with atomic_file(kept) as beside:
                    pl.read_parquet(folder.path / "queries-test.parquet").select("model", "accuracy").write_parquet(beside)
                found[f"{arm}/{seed}"] = curve(folder)
                keep()
            for (name,), rows in pl.read_parquet(kept).group_by("model", maintain_order=True):
                if name == "model" or arm == ARMS[0]:  # controls are the same beside either arm
                    right.setdefault(arm if name == "model" else str(name), []).append(rows["accuracy"].to_numpy())
    text = report(found, {name: np.stack(values)[..., None] for name, values in right.items()}, seeds)
    atomic_write(options.out / "results.md", text)
    print(text)


if __name__ == "__main__":
    main()
