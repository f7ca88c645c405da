"""Guided batches (G-SimCLR): does keeping a cluster's rows apart help a contrastive model with small batches?

    python docs/studies/mcl/guided.py mnist/images.parquet --out study

Digits as tables: 5 x 5 means of pixels. ``random`` trains on random batches. ``guided`` starts with a short contrastive stage, whose
embeddings are clustered (K = batch, as in the paper, which clusters an autoencoder's), and then trains new weights on batches without two
rows of a cluster. An ``oracle`` without two rows of a digit holds ten rows a batch, so its reference are ``small`` random batches of ten.

Claims: guided beats random by more than two standard deviations, same-digit pairs fall by at least 30%, and the gain shrinks as batches
grow. If the oracle does not help, guidance cannot. Results go to ``results.json``, which rows the probe gets right to ``right/``, the
report to ``results.md``; what is there is not run again.
"""

from __future__ import annotations

import argparse
import json
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from parts import only_with

from embedkit.api import train
from embedkit.data.sampler import BatchSampler, SamplerContext
from embedkit.errors import told
from embedkit.evaluate.estimate import difference, interval
from embedkit.files import atomic_file, atomic_write
from embedkit.host import Host
from embedkit.runs import RunFolder
from embedkit_clustering.configs import NoTwoConfig
from embedkit_clustering.samplers import NoTwoOfACluster
from embedkit_training.configs import UniformConfig
from embedkit_training.samplers import Uniform

DIGITS = 10
CELLS = 25
Floats = npt.NDArray[np.float64]


def arms(sizes: list[int]) -> list[tuple[str, int]]:
    """(arm, batch): two arms a batch size, and two with a row a digit."""
    return [("small", DIGITS), ("oracle", DIGITS), *((arm, size) for size in sizes for arm in ("random", "guided"))]


def digits(images: Path, rows: int, part: str) -> pl.DataFrame:
    """The first rows of either split, a column a mean of 4 x 4 pixels, with a fifth of the train rows for validation.

    The margin of four pixels, nearly empty, is left out. With ``part = "valid"`` the rows for validation take the place of the test rows,
    so that options can be chosen.
    """
    frame = pl.read_parquet(images)
    frame = pl.concat([frame.filter(pl.col("split") == name).head(count) for name, count in (("train", rows), ("test", rows // 2))])
    pixels = np.stack([np.frombuffer(image, np.uint8) for image in frame["pixels"]]).reshape(-1, 7, 4, 7, 4)
    means = pixels.mean(axis=(2, 4))[:, 1:-1, 1:-1].reshape(-1, CELLS) / 255
    split = ["valid" if name == "train" and n % 5 == 0 else name for n, name in enumerate(frame["split"])]
    columns: dict[str, Any] = {f"p{i}": means[:, i] for i in range(CELLS)}
    made = pl.DataFrame(columns | {"digit": frame["label"].cast(pl.String), "split": split})
    if part == "valid":
        made = made.filter(pl.col("split") != "test").with_columns(pl.col("split").replace("valid", "test"))
    return made


def run(arm: str, size: int, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """The run file of one arm."""
    pixels = [f"p{i}" for i in range(CELLS)]

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

    guide = [
        stage("warm", options.warm),
        {"use": "cluster", "name": "clusters", "tower": "row", "k": size},
        {"use": "snapshot", "name": "kept", "restart": True},
    ]
    stages: dict[str, list[dict[str, Any]]] = {
        "random": [stage("main", options.steps)],
        "small": [stage("main", options.steps)],
        "guided": [*guide, stage("main", options.steps, sampler="no_two_of_a_cluster", groups={"stage": "clusters"})],
        "oracle": [stage("main", options.steps, sampler="no_two_of_a_cluster", groups={"field": "digit"})],
    }
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
        "stages": stages[arm],
        "evaluate": [{"use": "linear_probe", "label": "digit", "tower": "row", "controls": [], "penalties": [1e-3, 1e-4, 1e-5]}],
        "compute": {"device": options.device, "threads": options.threads},
    }


def pairs(folder: RunFolder, frame: pl.DataFrame, arm: str, size: int, seed: int) -> float:
    """Share of the pairs in a batch that show one digit, over 200 batches."""
    digit = frame["digit"].to_numpy()
    sampler: BatchSampler
    if arm in ("guided", "oracle"):
        rows = np.flatnonzero(frame["split"].to_numpy() == "train")
        group = np.unique(digit[rows], return_inverse=True)[1]
        if arm == "guided":
            clusters = pl.read_parquet(folder.path / "clusters-clusters.parquet")
            rows, group = clusters["row"].to_numpy(), clusters["group"].to_numpy()
        sampler = NoTwoOfACluster(NoTwoConfig(), context=SamplerContext(rows, size, seed, {"group": group}))
    else:
        rows = np.flatnonzero(frame["split"].to_numpy() == "train")
        sampler = Uniform(UniformConfig(), context=SamplerContext(rows, size, seed))
    shares = []
    for batch in islice(sampler, 200):
        counts = np.unique(digit[batch], return_counts=True)[1]
        shares.append((counts * (counts - 1)).sum() / max(1, len(batch) * (len(batch) - 1)))
    return float(np.mean(shares))


def report(found: dict[str, Any], right: dict[tuple[str, int], Floats], sizes: list[int]) -> str:
    """The table and the claims.

    Args:
        found: ``arm-size/seed`` → its share of same-digit pairs.
        right: (arm, size) → which test rows the probe gets right, [seeds, rows, 1].
        sizes: batch sizes.
    """
    lines = ["| batch | arm | probe accuracy | seeds | same-digit pairs |", "|---|---|---|---|---|"]
    share: dict[tuple[str, int], float] = {}
    for (arm, size), values in right.items():
        share[arm, size] = float(np.mean([one["pairs"] for name, one in found.items() if name.startswith(f"{arm}-{size}/")]))
        around, each = interval(values, seed=0), values.mean(axis=(1, 2))
        seeds = ", ".join(f"{value:.3f}" for value in each)
        lines.append(f"| {size} | {arm} | {around.cells()[0]} | {seeds} | {share[arm, size]:.3f} |")
    compared = [(("small", DIGITS), ("oracle", DIGITS)), *((("random", size), ("guided", size)) for size in sizes)]
    gaps = {two: difference(right[one], right[two], seed=0) for one, two in compared}
    lines += ["", "| paired difference in accuracy | |", "|---|---|"]
    for (one, two), gap in zip(compared, gaps.values(), strict=True):
        lines.append(f"| {two[0]} − {one[0]}, batch {one[1]} | {gap.cells('+.4f')[0]} |")
    gain = [float(gaps["guided", size].value[0]) for size in sizes]
    small = sizes[0]
    deviations = [float(np.std(right[arm, small].mean(axis=(1, 2)), ddof=1)) for arm in ("random", "guided")]
    spread = max(deviations)
    fell = 1 - share["guided", small] / share["random", small]
    claims = {
        f"guided above random by more than two deviations at batch {small} ({gain[0]:+.4f}, deviation {spread:.4f})": gain[0] > 2 * spread,
        f"same-digit pairs fall by at least 30% (by {fell:.0%})": fell >= 0.3,
        "the gain shrinks as batches grow": all(a >= b for a, b in pairwise(gain)),
        "the oracle helps (the interval against random batches of its size is above zero)": bool(gaps["oracle", DIGITS].low[0] > 0),
    }
    return "\n".join([*lines, "", *(f"- {text}: {'holds' if well else 'fails'}" for text, well in claims.items())]) + "\n"


@told()
def main() -> None:
    """Run the study."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", type=Path, help="Parquet file with split, label and pixels")
    parser.add_argument("--out", type=Path, required=True, help="folder for results and runs")
    parser.add_argument("--seeds", type=int, default=5, help="two at least")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--rows", type=int, default=6000)
    parser.add_argument("--sizes", default="32,256", help="batch sizes, ascending")
    parser.add_argument("--warm", type=int, default=200, help="steps before clustering")
    parser.add_argument("--steps", type=int, default=600, help="steps of each arm")
    parser.add_argument("--share", type=float, default=0.3, help="cells that are corrupted")
    parser.add_argument("--part", choices=("valid", "test"), default="test", help="rows to report; options are chosen on valid ones")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    only_with(parser, options, ("rows", "warm", "steps", "share", "part"))
    frame, host = digits(options.images, options.rows, options.part), Host.load()
    sizes = [int(size) for size in options.sizes.split(",")]
    frame.write_parquet(options.out / "digits.parquet")
    path = options.out / "results.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    (options.out / "right").mkdir(exist_ok=True)
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    right: dict[tuple[str, int], list[Floats]] = {one: [] for one in arms(sizes)}
    for seed in seeds:
        for arm, size in right:
            kept = options.out / "right" / f"{arm}-{size}-{seed}.npy"
            if f"{arm}-{size}/{seed}" not in found:
                folder = train(run(arm, size, seed, options), options.out / "runs", base=options.out, host=host, log=print).folder
                rows = pl.read_parquet(folder.path / "queries-test.parquet").filter(pl.col("model") == "model")["accuracy"].to_numpy()
                with atomic_file(kept) as beside, beside.open("wb") as file:
                    np.save(file, rows)
                share = pairs(folder, frame, arm, size, seed)
                found[f"{arm}-{size}/{seed}"] = {"accuracy": float(rows.mean()), "pairs": share}
                atomic_write(path, json.dumps(found, indent=1) + "\n")
            right[arm, size].append(np.load(kept))
    text = report(found, {one: np.stack(values)[..., None] for one, values in right.items()}, sizes)
    atomic_write(options.out / "results.md", text)
    print(text)


if __name__ == "__main__":
    main()
