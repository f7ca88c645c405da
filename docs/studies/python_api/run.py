"""Which function of Python's standard library is called next: embedkit beside counting baselines, three seeds.

    embedkit data get python_api --out data/python_api
    python docs/studies/python_api/run.py data/python_api/run.toml --out study

Trains the run file once a seed and writes ``results.md``: the figures of the test split with 95% intervals that resample callers, crossed
with seeds, and the paired difference of the model to each baseline that the run file names.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import polars as pl

import embedkit
from embedkit.errors import told
from embedkit.evaluate.estimate import difference, interval
from embedkit.evaluate.metrics import Floats
from embedkit.files import atomic_write

METRICS = ("recall@10", "ndcg@10")


def values(tables: list[pl.DataFrame], model: str) -> Floats:
    """``METRICS`` of one model or baseline, [S, Q, 2]; the queries stand in the same order in every run."""
    return np.stack([table.filter(pl.col("model") == model).sort("query").select(METRICS).to_numpy() for table in tables])


@told()
def main() -> None:
    """Run the study."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    results = [embedkit.train(options.run, options.out / "runs", seed=seed, log=print) for seed in range(options.seeds)]
    tables = [pl.read_parquet(result.folder.queries("test")) for result in results]
    models = tables[0]["model"].unique(maintain_order=True).to_list()
    ours = values(tables, "model")
    lines = [f"| | {' | '.join(METRICS)} |", "|---|---|---|"]
    lines += [
        f"| {'embedkit' if name == 'model' else name} | {' | '.join(interval(values(tables, name), seed=0).cells())} |" for name in models
    ]
    for name in models:
        if name != "model":
            apart = difference(values(tables, name), ours, seed=0)
            lines.append(f"| embedkit − {name} (paired) | {' | '.join(apart.cells('+.4f'))} |")
    seeds = ", ".join(f"{value:.4f}" for value in ours[..., 0].mean(axis=1))
    lines += ["", f"{ours.shape[1]:,} callers; {METRICS[0]} of the seeds: {seeds}."]
    text = "\n".join(lines) + "\n"
    atomic_write(options.out / "results.md", text)
    print(text)


if __name__ == "__main__":
    main()
