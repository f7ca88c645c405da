"""Full ranking and metrics beside RecBole's Collector and Evaluator, on the same scores."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from harness import Goal, Ratio, Section

from embedkit.evaluate.metrics import measure
from embedkit.evaluate.ranks import full_ranking

METRICS, KS = ("recall", "ndcg", "mrr", "hit", "map"), (10, 20)
ROOT = Path(__file__).resolve().parents[2]
INTERPRETER = Path(os.environ.get("EMBEDKIT_RECBOLE_PYTHON", ROOT / ".venv-recbole" / "bin" / "python"))

TEXT = """The same score matrix and relevant items for both, in two processes that take turns. embedkit: `full_ranking` (the rank of every
relevant item among all items, ties in random order, chunks within its memory budget) and all metrics from the ranks, a value a query.
RecBole {version} (numpy {numpy}, its own environment): `Collector.eval_batch_collect` (top 20, positives as a dense matrix) and
`Evaluator.evaluate`, with as many queries a batch as embedkit takes at a time; its default `eval_batch_size` of 4,096 scores would make
batches of one query, which is slower. Metrics: {metrics} at {ks}. Recall, NDCG, MRR and hit rate agree to 1e-6 before a time counts; MAP
is not compared by value, since RecBole divides by min(relevant items, k) and embedkit, as trec_eval, by the relevant items."""


def run(quick: bool) -> list[Section]:
    """Two shapes: many relevant items a query, and one."""
    if (problem := missing()) is not None:
        return [
            Section(
                "Full-ranking evaluation",
                f"Not compared with RecBole: {problem}",
                goals=[Goal("evaluation over RecBole's", "-", problem, None)],
            )
        ]
    rounds = 3 if quick else 7
    shapes = ((6040, 3706, 20), (2000, 17698, 1))
    rows, goals = [], []
    for queries, items, relevant in shapes:
        queries = queries // 4 if quick else queries
        name = f"{queries:,} queries, {items:,} items, about {relevant} relevant each"
        data = make(queries, items, relevant)
        mine, theirs, facts = compare(data, rounds)
        ratio = paired(mine, theirs)
        each = [f"{median(seconds):.2f} s" for seconds in (mine, theirs)]
        rows.append([name, *each, str(ratio)])
        goals.append(Goal(f"evaluation over RecBole's: {name}", "-", str(ratio), None))
    header = ["scores", "embedkit", "RecBole", "ratio"]
    text = TEXT.format(metrics=", ".join(METRICS), ks=" and ".join(map(str, KS)), **facts)
    return [Section("Full-ranking evaluation", f"{text}\n\n{rounds} rounds, {threads()} threads.", header, rows, goals)]


def missing() -> str | None:
    """Why there is nothing to compare with, if so."""
    if not INTERPRETER.is_file():
        return f"there is no {INTERPRETER.name} with RecBole (`make bench` makes `.venv-recbole`; see its install.log)."
    tried = subprocess.run([str(INTERPRETER), "-c", "import recbole.evaluator"], capture_output=True, text=True, check=False)
    return None if tried.returncode == 0 else f"importing it fails ({tried.stderr.strip().splitlines()[-1]})."


def make(queries: int, items: int, relevant: int) -> dict[str, np.ndarray]:
    """Scores without ties, and relevant items that score a little higher than others."""
    random = np.random.default_rng(0)
    count = np.full(queries, relevant) if relevant == 1 else random.integers(1, 2 * relevant, queries)
    offsets = np.concatenate([[0], np.cumsum(count)])
    chosen = np.concatenate([random.choice(items, n, replace=False) for n in count])
    scores = random.standard_normal((queries, items), dtype=np.float32)
    scores[np.repeat(np.arange(queries), count), chosen] += 1.5
    return {"scores": scores, "items": chosen, "offsets": offsets, "metrics": np.array(METRICS), "ks": np.array(KS)}


def compare(data: dict[str, np.ndarray], rounds: int) -> tuple[list[float], list[float], dict[str, Any]]:
    """Seconds of embedkit and of RecBole, and RecBole's versions."""
    torch.set_num_threads(threads())
    chunk = chunk_size(data)
    mine, theirs = [], []
    with tempfile.TemporaryDirectory(prefix="embedkit-bench-") as root:
        np.savez(Path(root) / "scores.npz", **data)
        command = [str(INTERPRETER), "-W", "ignore", str(Path(__file__).with_name("recbole_side.py")), f"{root}/scores.npz", str(threads())]
        clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=clean)
        facts = answer(other)
        for number in range(-1, rounds):
            start = time.perf_counter()
            found = evaluate(data)
            took = time.perf_counter() - start
            there = ask(other, chunk)
            check(found, there["found"])
            if number >= 0:
                mine.append(took)
                theirs.append(there["seconds"])
        assert other.stdin is not None
        other.stdin.close()
        other.wait()
    return mine, theirs, facts


def evaluate(data: dict[str, np.ndarray], sizes: list[int] | None = None) -> dict[str, float]:
    """embedkit's side: metric → mean over queries."""
    scores = torch.from_numpy(data["scores"])

    def part(lo: int, hi: int) -> torch.Tensor:
        if sizes is not None:
            sizes.append(hi - lo)
        return scores[lo:hi]

    ranking = full_ranking(part, (data["items"], data["offsets"]), scores.shape[1])
    names = [f"{metric}@{k}" for metric in METRICS for k in KS]
    return {name: float(values.mean()) for name, values in measure(ranking.ranks, names).items()}


def chunk_size(data: dict[str, np.ndarray]) -> int:
    """Queries that embedkit takes at a time."""
    sizes: list[int] = []
    evaluate(data, sizes)
    return max(sizes)


def ask(other: subprocess.Popen[str], size: int) -> dict[str, Any]:
    assert other.stdin is not None
    other.stdin.write(f"{size}\n")
    other.stdin.flush()
    return answer(other)


def answer(other: subprocess.Popen[str]) -> dict[str, Any]:
    """The next line of the other process that is JSON."""
    assert other.stdout is not None
    while line := other.stdout.readline():
        if line.startswith("{"):
            found: dict[str, Any] = json.loads(line)
            return found
    sys.exit("RecBole's process ended; its message stands above")


def check(mine: dict[str, float], theirs: dict[str, float]) -> None:
    """The figures that both define alike are equal."""
    for name, value in mine.items():
        if not name.startswith("map"):
            assert abs(value - theirs[name]) < 1e-6, (name, value, theirs[name])


def paired(a: list[float], b: list[float]) -> Ratio:
    found = [x / y for x, y in zip(a, b, strict=True)]
    return Ratio(median(found), min(found), max(found), len(found))


def threads() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
