"""Does long training spoil Barlow Twins on a table, and do mixed rows prevent it?

    python docs/studies/barlow/run.py adult/adult.parquet --label income --out study

Views are corrupted rows. A pilot of plain Barlow Twins finds the step at which its kNN accuracy on valid rows peaks; both losses are then
trained ten times as long, with equal options. Results go to ``results.json`` and ``results.md``; what is there already is not run again.
"""

from __future__ import annotations

import argparse
import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np

from embedkit.api import train
from embedkit.config.starter import write_starter
from embedkit.files import atomic_write
from embedkit.host import Host

WIDTH = 256
"""Width of the projections."""
ARMS = ("barlow_twins", "mixed_barlow_twins")
CLAIMS = (
    "Barlow Twins ends at least 1 point below its own peak",
    "Mixed Barlow Twins does not",
    "Mixed Barlow Twins ends above Barlow Twins",
)


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
        "validate": {"metric": "accuracy", "every": every, "max_queries": 5000},
        "log_every": every,
    }
    probe = {
        "use": "knn_probe",
        "label": options.label,
        "tower": tower,
        "neighbors": [20],
        "max_train": 20_000,
        "controls": ["raw", "untrained"],
    }
    return data | {"seed": seed, "stages": [stage], "evaluate": [probe], "compute": {"device": options.device, "threads": options.threads}}


def curve(data: dict[str, Any], table: Path, options: argparse.Namespace, host: Host) -> list[tuple[int, float]]:
    """Train; (step, kNN accuracy on valid rows)."""
    folder = train(data, options.out / "runs", base=table.parent, host=host, log=print).folder
    lines = [json.loads(line) for line in folder.metrics.read_text(encoding="utf-8").splitlines()]
    return [(line["step"], line["value"]) for line in lines if line["kind"] == "valid"]


def report(found: dict[str, Any]) -> str:
    """The table, and whether each claim holds for the mean over seeds."""
    lines = ["| | peak kNN | at step | final kNN | final − peak |", "|---|---|---|---|---|"]
    drop, final = {}, {}
    for arm in ARMS:
        curves = [np.array(points) for name, points in found.items() if name.startswith(f"{arm}/")]
        peaks = np.array([points[:, 1].max() for points in curves])
        ends = np.array([points[-1, 1] for points in curves])
        at = [int(points[points[:, 1].argmax(), 0]) for points in curves]
        drop[arm], final[arm] = float((ends - peaks).mean()), float(ends.mean())
        cells = [f"{values.mean():.4f} ± {values.std(ddof=1) if len(values) > 1 else 0:.4f}" for values in (peaks, ends, ends - peaks)]
        lines.append(f"| {arm} | {cells[0]} | {', '.join(map(str, at))} | {cells[1]} | {cells[2]} |")
    holds = (drop[ARMS[0]] <= -0.01, drop[ARMS[1]] > -0.01, final[ARMS[1]] > final[ARMS[0]])
    lines += ["", f"Pilot peak at step {found['pilot']}.", ""]
    lines += [f"- {text}: {'holds' if well else 'fails'}" for text, well in zip(CLAIMS, holds, strict=True)]
    if not holds[0]:
        lines.append("- The premise that Barlow Twins overfits is absent on this table.")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the study."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", type=Path, help="Parquet file")
    parser.add_argument("--label", required=True, help="column with classes")
    parser.add_argument("--out", type=Path, required=True, help="folder for results and runs")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--pilot", type=int, default=1000, help="steps of the pilot")
    parser.add_argument("--most", type=int, default=10_000, help="most steps of an arm")
    parser.add_argument("--points", type=int, default=50, help="points of a curve")
    parser.add_argument("--batch", type=int, default=512)
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

    if "pilot" not in found:
        points = curve(run(table, options, host, loss=ARMS[0], steps=options.pilot, seed=1000), table, options, host)
        found["pilot"] = max(points, key=lambda point: point[1])[0]
        keep()
    steps = min(options.most, 10 * found["pilot"])
    for seed in range(options.seeds):
        for arm in ARMS:
            if f"{arm}/{seed}" not in found:
                found[f"{arm}/{seed}"] = curve(run(table, options, host, loss=arm, steps=steps, seed=seed), table, options, host)
                keep()
    text = report(found)
    atomic_write(options.out / "results.md", text)
    print(text)


if __name__ == "__main__":
    main()
