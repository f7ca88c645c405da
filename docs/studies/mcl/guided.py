"""Guided batches (G-SimCLR): does keeping a cluster's rows apart help a contrastive model with small batches?

    python docs/studies/mcl/guided.py mnist/images.parquet --out study

Digits as tables: 7 x 7 means of pixels. All arms start with the same short contrastive stage, whose embeddings are clustered (K = batch, as
in the paper, which clusters an autoencoder's); then each trains new weights: ``random`` batches, or ``guided`` ones without two rows of a
cluster. An ``oracle`` without two rows of a digit holds ten rows a batch, so its reference are ``small`` random batches of ten.

Claims: guided beats random by more than two standard deviations, same-digit pairs fall by at least 30%, and the gain shrinks as batches
grow. If the oracle does not help, guidance cannot. Results go to ``results.json`` and ``results.md``; what is there is not run again.
"""

from __future__ import annotations

import argparse
import json
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from embedkit.api import train
from embedkit.data.sampler import BatchSampler, SamplerContext
from embedkit.files import atomic_write
from embedkit.host import Host
from embedkit_clustering.configs import NoTwoConfig
from embedkit_clustering.samplers import NoTwoOfACluster
from embedkit_training.configs import UniformConfig
from embedkit_training.samplers import Uniform

ARMS = ("random", "guided", "oracle", "small")
DIGITS = 10


def digits(images: Path, rows: int) -> pl.DataFrame:
    """The first rows of either split, a column a mean of 4 x 4 pixels, with a fifth of the train rows for validation."""
    frame = pl.read_parquet(images)
    frame = pl.concat([frame.filter(pl.col("split") == part).head(count) for part, count in (("train", rows), ("test", rows // 2))])
    pixels = np.stack([np.frombuffer(image, np.uint8) for image in frame["pixels"]]).reshape(-1, 7, 4, 7, 4)
    means = pixels.mean(axis=(2, 4)).reshape(-1, 49) / 255
    split = ["valid" if part == "train" and n % 5 == 0 else part for n, part in enumerate(frame["split"])]
    columns: dict[str, Any] = {f"p{i}": means[:, i] for i in range(49)}
    return pl.DataFrame(columns | {"digit": frame["label"].cast(pl.String), "split": split})


def run(arm: str, size: int, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """The run file of one arm."""
    pixels = [f"p{i}" for i in range(49)]

    def stage(name: str, steps: int, **stream: Any) -> dict[str, Any]:
        return {
            "use": "train",
            "name": name,
            "steps": steps,
            "streams": {"main": {"table": "digits", "size": size, "sampler": "uniform"} | stream},
            "views": [{"use": "corruption", "of": "main", "makes": ["a", "b"], "share": options.share}],
            "losses": [{"use": "info_nce", "tower": "row", "views": ["a", "b"], "temperature": 0.1, "projector": [128, 50]}],
            "optimizer": {"use": "adamw", "lr": {"from": 0.002, "to": 0.0, "shape": "cosine"}},
            "log_every": 500,
        }

    stream: dict[str, Any] = {
        "random": {},
        "small": {"size": min(size, DIGITS)},
        "guided": {"sampler": "no_two_of_a_cluster", "groups": {"stage": "clusters"}, "least": 2},
        "oracle": {"sampler": "no_two_of_a_cluster", "groups": {"field": "digit"}, "least": 2, "size": min(size, DIGITS)},
    }[arm]
    return {
        "format": 1,
        "name": f"{arm}-{size}",
        "seed": seed,
        "tables": {"digits": {"uri": "digits.parquet", "split": {"by": "column", "column": "split", "valid": "valid", "test": "test"}}},
        "fields": {name: {"table": "digits", "type": "number"} for name in pixels}
        | {"digit": {"table": "digits", "type": "category", "role": "label"}},
        "towers": {"row": pixels},
        "model": {
            "dim": 64,
            "encoders": [{"use": "number", "kind": "linear", "fields": pixels}],
            "trunk": {"use": "mlp", "hidden": [256], "residual": False},
        },
        "stages": [
            stage("warm", options.warm),
            {"use": "cluster", "name": "clusters", "tower": "row", "k": max(size, 2)},
            {"use": "snapshot", "name": "kept", "restart": True},
            stage("main", options.steps, **stream),
        ],
        "evaluate": [{"use": "linear_probe", "label": "digit", "tower": "row", "controls": ["untrained"]}],
        "compute": {"device": options.device, "threads": options.threads},
    }


def pairs(clusters: Path, digit: np.ndarray, arm: str, size: int, seed: int) -> float:
    """Share of the pairs in a batch that show one digit, over 200 batches."""
    frame = pl.read_parquet(clusters)
    rows = frame["row"].to_numpy()
    sampler: BatchSampler
    if arm == "guided":
        context = SamplerContext(rows, size, seed, {"group": frame["group"].to_numpy()})
        sampler = NoTwoOfACluster(NoTwoConfig(least=2), context=context)
    else:
        sampler = Uniform(UniformConfig(), context=SamplerContext(rows, size, seed))
    shares = []
    for batch in islice(sampler, 200):
        counts = np.unique(digit[batch], return_counts=True)[1]
        shares.append((counts * (counts - 1)).sum() / max(1, len(batch) * (len(batch) - 1)))
    return float(np.mean(shares))


def report(found: dict[str, Any], sizes: list[int]) -> str:
    """The table and the claims."""
    lines = ["| batch | arm | probe accuracy | same-digit pairs |", "|---|---|---|---|"]
    mean: dict[tuple[int, str], tuple[float, float, float]] = {}
    for size in sizes:
        for arm in ARMS:
            ours = [one for name, one in found.items() if name.startswith(f"{arm}-{size}/")]
            accuracy, share = (np.array([one[key] for one in ours]) for key in ("accuracy", "pairs"))
            spread = float(accuracy.std(ddof=1)) if len(accuracy) > 1 else 0.0
            mean[size, arm] = (float(accuracy.mean()), spread, float(share.mean()))
            lines.append(f"| {size} | {arm} | {accuracy.mean():.4f} ± {spread:.4f} | {share.mean():.3f} |")
    gain = {size: mean[size, "guided"][0] - mean[size, "random"][0] for size in sizes}
    small = sizes[0]
    fell = 1 - mean[small, "guided"][2] / mean[small, "random"][2]
    claims = {
        f"guided above random by more than two deviations at batch {small} ({gain[small]:+.4f})": gain[small]
        > 2 * max(mean[small, "guided"][1], mean[small, "random"][1]),
        f"same-digit pairs fall by at least 30% (by {fell:.0%})": fell >= 0.3,
        "the gain shrinks as batches grow": all(gain[a] >= gain[b] for a, b in pairwise(sizes)),
        "the oracle helps (against random batches of its size)": mean[small, "oracle"][0] > mean[small, "small"][0],
    }
    return "\n".join([*lines, "", *(f"- {text}: {'holds' if well else 'fails'}" for text, well in claims.items())]) + "\n"


def main() -> None:
    """Run the study."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", type=Path, help="Parquet file with split, label and pixels")
    parser.add_argument("--out", type=Path, required=True, help="folder for results and runs")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=6000)
    parser.add_argument("--sizes", default="32,64,256", help="batch sizes, ascending")
    parser.add_argument("--warm", type=int, default=500, help="steps before clustering")
    parser.add_argument("--steps", type=int, default=3000, help="steps of each arm")
    parser.add_argument("--share", type=float, default=0.3, help="cells that are corrupted")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    frame, host, sizes = digits(options.images, options.rows), Host.load(), [int(size) for size in options.sizes.split(",")]
    frame.write_parquet(options.out / "digits.parquet")
    digit = frame["digit"].to_numpy()
    path = options.out / "results.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    for size in sizes:
        for seed in range(options.seeds):
            for arm in ARMS:
                if f"{arm}-{size}/{seed}" in found:
                    continue
                result = train(run(arm, size, seed, options), options.out / "runs", base=options.out, host=host, log=print)
                drawn = size if arm in ("random", "guided") else min(size, DIGITS)
                share = 0.0 if arm == "oracle" else pairs(result.folder.path / "clusters-clusters.parquet", digit, arm, drawn, seed)
                found[f"{arm}-{size}/{seed}"] = {"accuracy": result.metrics["accuracy"], "pairs": share}
                atomic_write(path, json.dumps(found, indent=1) + "\n")
    text = report(found, sizes)
    atomic_write(options.out / "results.md", text)
    print(text)


if __name__ == "__main__":
    main()
