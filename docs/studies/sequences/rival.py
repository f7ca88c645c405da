"""RecBole's SASRec to the end on a split of ours, and embedkit's model of the same width beside it: figures, and time to equal quality.

    make .venv-recbole/.done
    python docs/studies/sequences/rival.py data/amazon_beauty --out study --threads 2

The two train one after the other with as many threads. RecBole has its default options but for width, depth, heads and length, which are
ours, cross-entropy over all items, and batches of 256 rows: its default of 2,048 (``--batch 2048``) learns far more slowly on Beauty.
embedkit has its starter run file at that width, changed by an arm of the study (``--arm``) and by ``--set``. Both stop when validation
NDCG@10 has not risen for three epochs, embedkit after the epochs of its file at the latest, RecBole after ``--epochs``. Both are ranked
alike: what a user has taken is left out, ties are broken at random. Writes ``rival.md``, and ``ours.jsonl`` and ``rival.jsonl`` with a
line an epoch. What is done is not repeated, and RecBole goes on after the last epoch that it finished.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from run import arms, changes_of

import embedkit
from embedkit.errors import UsageError, told
from embedkit.evaluate.estimate import difference, interval
from embedkit.evaluate.metrics import Floats
from embedkit.files import atomic_write
from embedkit.runs import list_runs

ROOT = Path(__file__).resolve().parents[3]
INTERPRETER = Path(os.environ.get("EMBEDKIT_RECBOLE_PYTHON", ROOT / ".venv-recbole" / "bin" / "python"))
SCRIPT = ROOT / "tests" / "benchmarks" / "recbole_sasrec.py"
METRICS = ("ndcg@10", "recall@10")
PATIENCE = 3


def theirs(data: Path, out: Path, width: int, threads: int, seed: int, batch: int, epochs: int) -> tuple[list[dict[str, Any]], Floats]:
    """What RecBole said of each epoch, and ``METRICS`` of each user's test item [Q, 2], users in order."""
    said, ranks = out / "rival.jsonl", out / "ranks.npz"
    if not ranks.exists():
        events = pl.read_parquet(data / "interactions.parquet")
        columns = {name: events[f"{name}_id"].to_numpy() for name in ("user", "item")} | {"position": events["position"].to_numpy()}
        np.savez(out / "events.npz", **columns, width=width, seed=seed, patience=PATIENCE, epochs=epochs, batch=batch)
        command = [str(INTERPRETER), "-W", "ignore", str(SCRIPT), str(out / "events.npz"), str(threads), str(ranks)]
        with said.open("a") as file, subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in filter(lambda line: line.startswith("{"), process.stdout):
                print(line, end="", flush=True)
                file.write(line)
                file.flush()
        if process.returncode:
            raise SystemExit(f"RecBole's process ended with {process.returncode}; its command: {' '.join(command)}")
    with np.load(ranks, allow_pickle=False) as found:
        rank = found["rank"][np.argsort(found["user"])]
    figures = np.stack([np.where(rank <= 10, 1 / np.log2(rank + 1), 0.0), (rank <= 10).astype(float)], axis=1)
    return [line for line in map(json.loads, said.read_text().splitlines()) if "epoch" in line], figures


def ours(data: Path, out: Path, width: int, threads: int, seed: int, more: Sequence[str]) -> tuple[list[dict[str, Any]], Floats]:
    """The same of embedkit's starter run file at that width; seconds count from the start, tables and vocabularies included."""
    told = out / "ours.jsonl"
    if not told.exists():
        atomic_write(told, "".join(json.dumps(line) + "\n" for line in _train(data, out, width, threads, seed, more)))
    (run,) = list_runs(out / "runs")
    frame = pl.read_parquet(run.queries("test")).filter(pl.col("model") == "model").sort(pl.col("query").cast(pl.String))
    return [json.loads(line) for line in told.read_text().splitlines()], frame.select(METRICS).to_numpy()


def _train(data: Path, out: Path, width: int, threads: int, seed: int, more: Sequence[str]) -> list[dict[str, Any]]:
    """A line an epoch."""
    shutil.rmtree(out / "runs", ignore_errors=True)
    changes = [f"model.dim={width}", f"compute.threads={threads}", f'stages.0.validate={{ metric = "ndcg@10", patience = {PATIENCE} }}']
    began, clock = datetime.now(UTC), time.perf_counter()
    result = embedkit.train(data / "run.toml", out / "runs", overrides=[*changes, *more], seed=seed, log=print)
    print(f"embedkit: {time.perf_counter() - clock:.1f} s in all")
    records = [line for line in map(json.loads, result.folder.metrics.read_text().splitlines()) if line["kind"] == "valid"]
    seconds = [(datetime.fromisoformat(line["time"]) - began).total_seconds() for line in records]
    return [{"epoch": r["epoch"], "seconds": s, "ndcg@10": r["value"]} for r, s in zip(records, seconds, strict=True)]


def reached(said: Sequence[dict[str, Any]], quality: float) -> dict[str, Any] | None:
    """The first epoch whose validation NDCG@10 is as good."""
    return next((line for line in said if line["ndcg@10"] >= quality), None)


def report(sides: dict[str, tuple[list[dict[str, Any]], Floats]], width: int, threads: int) -> str:
    """The tables in Markdown."""
    lines = ["| | valid NDCG@10 | epochs | seconds to the best | test NDCG@10 | test recall@10 |", "|---|---|---|---|---|---|"]
    tops = {}
    for name, (said, figures) in sides.items():
        top = tops[name] = max(said, key=lambda line: line["ndcg@10"])
        cells = " | ".join(interval(figures[None], seed=0).cells())
        lines.append(f"| {name} | {top['ndcg@10']:.4f} | {said[-1]['epoch']:.0f} | {top['seconds']:.0f} | {cells} |")
    mine, other = sides
    apart = difference(sides[other][1][None], sides[mine][1][None], seed=0)
    lines += [f"| {mine} − {other} (paired) | | | | {' | '.join(apart.cells('+.4f'))} |", ""]
    for share in (0.8, 0.9, 1.0):
        quality = share * tops[other]["ndcg@10"]
        first, second = (reached(sides[name][0], quality) for name in (mine, other))
        assert second is not None
        told = "not reached by embedkit"
        if first is not None:
            told = f"{first['seconds']:.0f} s and {second['seconds']:.0f} s, {second['seconds'] / first['seconds']:.0f} times"
        lines.append(f"- to {share:.0%} of RecBole's best validation NDCG@10, {quality:.4f}: {told}")
    users = len(sides[mine][1])
    return "\n".join([*lines, "", f"Width {width}, {threads} threads, one seed, {users:,} users."]) + "\n"


def keep_to(options: argparse.Namespace) -> None:
    """Refuse a folder that holds a comparison with other options: what is done there would be told as if it were this one's.

    More epochs for RecBole are none: it goes on.
    """
    asked = {key: str(value) for key, value in vars(options).items() if key not in ("out", "epochs")}
    path = options.out / "options.json"
    begun = path.exists() and any((options.out / name).exists() for name in ("ours.jsonl", "rival.jsonl"))
    before = json.loads(path.read_text()) if begun else asked
    if other := [key for key in asked if before.get(key) != asked[key]]:
        words = ", ".join(f"--{key} {before.get(key)}" for key in other)
        raise UsageError(f"{options.out}: holds a comparison with {words}; give the same or another --out")
    atomic_write(path, json.dumps(asked, indent=1) + "\n")


@told()
def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder that `embedkit data get amazon_beauty` (or amazon_sports) wrote")
    parser.add_argument("--out", type=Path, required=True, help="folder for runs and results")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--arm", default="ids", choices=arms(), help="what embedkit's run file changes")
    parser.add_argument("--batch", type=int, default=256, help="rows a batch of RecBole")
    parser.add_argument("--epochs", type=int, default=50, help="of RecBole at most")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change embedkit's run file further")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    keep_to(options)
    chosen = (options.width, options.threads, options.seed)
    mine = ours(options.data, options.out, *chosen, [*changes_of(options.arm), *options.set])
    sides = {"embedkit": mine, "RecBole": theirs(options.data, options.out, *chosen, options.batch, options.epochs)}
    table = report(sides, options.width, options.threads)
    atomic_write(options.out / "rival.md", table)
    print(table)


if __name__ == "__main__":
    main()
