"""Multistage contrastive learning on two independent factors, one of which drowns the other.

    python docs/studies/mcl/run.py --out study

Stage 0 is plain InfoNCE; its embeddings are clustered; stage 1 trains new weights on batches of one cluster each. What a linear probe
reads of either factor is compared for stage 0, stage 1, both side by side (MCL), and two plain models side by side (an ensemble of equal
size). Results go to ``results.json`` and ``results.md``; a seed that is there already is not run again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from parts import within_clusters
from sklearn.linear_model import LogisticRegression

from embedkit.api import concatenate, load, train
from embedkit.errors import told
from embedkit.files import atomic_write
from embedkit.host import Host

STRONG, WEAK = 10, 2
"""Values of the factors."""
THRESHOLDS = ("weak factor by MCL at least 0.9", "MCL above the ensemble by at least 0.1", "strong factor by stage 1 alone at most 0.2")
NOISY = " in noise"
ARMS = ("stage 0", "stage 1", "mcl", "ensemble")


def table(rows: int, strong_columns: int, weak_columns: int, spread: float, seed: int) -> pl.DataFrame:
    """A prototype for each value of a factor, in columns of its own, and a little noise that belongs to the row."""
    rng = np.random.default_rng(seed)
    strong, weak = rng.integers(0, STRONG, rows), rng.integers(0, WEAK, rows)
    first = rng.normal(size=(STRONG, strong_columns))[strong]
    second = np.sign(rng.normal(size=weak_columns)) * (2 * weak[:, None] - 1)
    columns = {f"s{i}": first[:, i] for i in range(strong_columns)} | {f"w{i}": second[:, i] for i in range(weak_columns)}
    columns = {name: values + spread * rng.normal(size=rows) for name, values in columns.items()}
    return pl.DataFrame(columns | {"strong": strong, "weak": weak})


def run(columns: list[str], steps: int, noise: float, width: int, seed: int, *, stages: int) -> dict[str, Any]:
    """The run file: one contrastive stage, or two with clusters and a snapshot between them."""

    def stage(name: str, **stream: Any) -> dict[str, Any]:
        return {
            "use": "train",
            "name": name,
            "steps": steps,
            "streams": {"main": {"table": "rows", "size": 256} | stream},
            "views": [{"use": "jitter", "of": "main", "makes": ["a", "b"], "scale": noise}],
            "losses": [{"use": "info_nce", "tower": "row", "views": ["a", "b"], "temperature": 0.5}],
            "optimizer": {"use": "adamw", "lr": {"from": 0.003, "to": 0.0, "shape": "cosine"}},
            "log_every": 200,
        }

    return {
        "format": 1,
        "name": f"mcl{stages}",
        "seed": seed,
        "tables": {"rows": {"uri": "rows.parquet"}},
        "fields": {name: {"table": "rows", "type": "number"} for name in columns},
        "towers": {"row": columns},
        "model": {
            "dim": width,
            "encoders": [{"use": "number", "kind": "linear", "fields": columns}],
            "trunk": {"use": "mlp", "hidden": [128, 128], "residual": False},
            "head": {"use": "linear", "dim": 8},
        },
        "stages": [stage("first-stage"), *(within_clusters(stage, STRONG) if stages > 1 else [])],
        "compute": {"device": "cpu", "threads": 1},
    }


def probe(vectors: np.ndarray, label: np.ndarray) -> float:
    """Accuracy of a linear probe that is fitted on the first half of the rows, on the second."""
    half = len(label) // 2
    return float(LogisticRegression(max_iter=1000).fit(vectors[:half], label[:half]).score(vectors[half:], label[half:]))


def one_seed(seed: int, options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Arm → factor → accuracy on rows as they are, and (``… in noise``) on rows with the noise of a training view."""
    folder = options.out / f"seed-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    frame = table(options.rows, options.strong_columns, options.weak_columns, options.spread, seed)
    columns = [name for name in frame.columns if name not in ("strong", "weak")]
    frame.write_parquet(folder / "rows.parquet")
    host = Host.load(plugins=[str(Path(__file__).with_name("jitter.py"))])
    given = {"out": folder / "runs", "base": folder, "host": host, "log": print}
    both = train(run(columns, options.steps, options.noise, options.token_width, seed, stages=2), **given)
    other = train(run(columns, options.steps, options.noise, options.token_width, 1000 + seed, stages=1), **given)
    first = both.folder.path / "snapshots" / "first"
    models = {
        "stage 0": load(first, host=host),
        "stage 1": load(both.bundle, host=host),
        "mcl": concatenate([first, both.bundle], host=host),
        "ensemble": concatenate([first, other.bundle], host=host),
    }
    rng = np.random.default_rng(seed + 1)
    noise = [options.noise * frame[name].std() * pl.Series(rng.normal(size=len(frame))) for name in columns]
    noisy = frame.with_columns([pl.col(name) + added for name, added in zip(columns, noise, strict=True)])
    found: dict[str, dict[str, float]] = {}
    for arm, model in models.items():
        for shown, suffix in ((frame, ""), (noisy, NOISY)):
            vectors = model.encode(shown)
            for factor in ("strong", "weak"):
                found.setdefault(arm, {})[factor + suffix] = probe(vectors, frame[factor].to_numpy())
    return found


def report(found: dict[str, dict[str, dict[str, float]]]) -> str:
    """The table, and whether each threshold holds for the mean over seeds."""
    lines = ["| | weak factor | strong factor | weak factor in noise | strong factor in noise |", "|---|---|---|---|---|"]
    mean: dict[tuple[str, str], float] = {}
    for arm in ARMS:
        cells = []
        for factor in ("weak", "strong", "weak" + NOISY, "strong" + NOISY):
            values = [one[arm][factor] for one in found.values()]
            mean[arm, factor] = float(np.mean(values))
            cells.append(
                f"{np.mean(values):.3f} ± {np.std(values, ddof=1) if len(values) > 1 else 0:.3f} ({', '.join(f'{v:.3f}' for v in values)})"
            )
        lines.append(f"| {arm} | {' | '.join(cells)} |")
    weak = mean["mcl", "weak"]
    holds = (weak >= 0.9, weak >= mean["ensemble", "weak"] + 0.1, mean["stage 1", "strong"] <= 0.2)
    lines += ["", *(f"- {text}: {'holds' if well else 'fails'}" for text, well in zip(THRESHOLDS, holds, strict=True))]
    return "\n".join(lines) + "\n"


@told()
def main() -> None:
    """Run the study."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for results and runs")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=4000)
    parser.add_argument("--steps", type=int, default=2500, help="of each stage")
    parser.add_argument("--noise", type=float, default=1.0, help="of the views, in standard deviations of a column")
    parser.add_argument("--token-width", type=int, default=32, help="numbers that a column is told in, before the perceptron")
    parser.add_argument("--strong-columns", type=int, default=24)
    parser.add_argument("--weak-columns", type=int, default=1)
    parser.add_argument("--spread", type=float, default=0.3, help="noise of a row, in all its views")
    parser.add_argument("--first-seed", type=int, default=0)
    options = parser.parse_args()
    path = options.out / "results.json"
    found = json.loads(path.read_text()) if path.exists() else {}
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        if str(seed) not in found:
            found[str(seed)] = one_seed(seed, options)
            options.out.mkdir(parents=True, exist_ok=True)
            atomic_write(path, json.dumps(found, indent=1) + "\n")
    text = report(found)
    atomic_write(options.out / "results.md", text)
    print(text)


if __name__ == "__main__":
    main()
