"""Multistage contrastive learning on headlines, each behind a word that has nothing to do with it and drowns it.

    python docs/studies/mcl/news.py ag_news_test/articles.parquet --out study

The word, one of ten and drawn at random for each title, is the strong factor, the topic of the news the weak one. Views are titles without
some of their words. Stages and arms are those of ``run.py``, and ``clean`` is stage 0 on titles without the word: what there is to learn.
A linear probe is fitted on train rows, its penalty chosen on valid rows, and measured on test rows. A seed that is there already is not
run again; the report goes to ``results.md``.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from parts import only_with, within_clusters
from sklearn.linear_model import LogisticRegression

from embedkit.api import concatenate, load, train
from embedkit.errors import told
from embedkit.evaluate.estimate import difference, interval
from embedkit.files import atomic_file, atomic_write
from embedkit.host import Host

WORDS = [f"x{letter * 3}x" for letter in "abcdefghij"]
"""The strong factor's values; no title holds one."""
ARMS = ("clean", "stage 0", "stage 1", "mcl", "ensemble")
FACTORS = ("topic", "word")
THRESHOLDS = (
    "premise: stage 0 reads the topic at least 0.1 worse than it does without the word",
    "topic by MCL above the ensemble by at least 0.1",
    "topic by MCL at least 0.9 of what stage 0 reads without the word",
    "word by stage 1 alone at most 0.2",
)
Floats = npt.NDArray[np.float64]


def table(articles: Path, copies: int, seed: int) -> pl.DataFrame:
    """Titles behind ``copies`` of their word, titles as they are, topic, word, and a split of 3 : 1 : 1 that is the same for all seeds."""
    news = pl.read_parquet(articles)
    word = np.array(WORDS)[np.random.default_rng(seed).integers(0, len(WORDS), len(news))]
    split = np.array(["train", "train", "train", "valid", "test"])[np.random.default_rng(0).permutation(len(news)) % 5]
    title = [" ".join([one] * copies + [text]) for one, text in zip(word, news["title"], strict=True)]
    return pl.DataFrame({"title": title, "clean": news["title"], "topic": news["label"], "word": word, "split": split})


def run(text: str, seed: int, options: argparse.Namespace, *, stages: int) -> dict[str, Any]:
    """The run file: one contrastive stage, or two with clusters and a snapshot between them."""

    def stage(name: str, **stream: Any) -> dict[str, Any]:
        return {
            "use": "train",
            "name": name,
            "steps": options.steps,
            "streams": {"main": {"table": "news", "size": options.batch, "sampler": "uniform"} | stream},
            "views": [{"use": "value_dropout", "of": "main", "makes": [view], "fields": [text], "share": options.share} for view in "ab"],
            "losses": [{"use": "info_nce", "tower": "row", "views": ["a", "b"], "temperature": 0.5}],
            "optimizer": {"use": "adamw", "lr": {"from": 0.003, "to": 0.0, "shape": "cosine"}},
            "log_every": 500,
        }

    return {
        "format": 1,
        "name": f"news{stages}",
        "seed": seed,
        "tables": {"news": {"uri": "news.parquet", "split": {"by": "column", "column": "split", "valid": "valid", "test": "test"}}},
        "fields": {text: {"table": "news", "type": "text", "bigrams": False, "ngrams": []}},
        "towers": {"row": [text]},
        "model": {
            "dim": 64,
            "encoders": [{"use": "hashed_text", "buckets": 8192, "weighted": False, "fields": [text]}],
            "trunk": {"use": "mlp", "hidden": [128], "residual": False},
            "head": {"use": "linear", "dim": 8},
        },
        "stages": [stage("first-stage"), *(within_clusters(stage, len(WORDS)) if stages > 1 else [])],
        "compute": {"device": options.device, "threads": options.threads},
    }


def probe(vectors: Floats, label: npt.NDArray[np.str_], split: npt.NDArray[np.str_]) -> dict[str, Floats]:
    """Valid and test rows → 1.0 for each that the probe gets right, 0.0 for the others."""
    part = {name: np.flatnonzero(split == name) for name in ("train", "valid", "test")}
    tried = [LogisticRegression(C=c, max_iter=1000).fit(vectors[part["train"]], label[part["train"]]) for c in (0.1, 1.0, 10.0)]
    best = max(tried, key=lambda model: float(model.score(vectors[part["valid"]], label[part["valid"]])))
    return {name: (best.predict(vectors[part[name]]) == label[part[name]]).astype(np.float64) for name in ("valid", "test")}


def one_seed(seed: int, options: argparse.Namespace) -> dict[str, Floats]:
    """``arm/factor/split`` → which rows the probe gets right."""
    folder = options.out / f"seed-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    frame = table(options.articles, options.copies, seed)
    frame.write_parquet(folder / "news.parquet")
    host = Host.load()
    given: dict[str, Any] = {"out": folder / "runs", "base": folder, "host": host, "log": print}
    both = train(run("title", seed, options, stages=2), **given)
    other = train(run("title", 1000 + seed, options, stages=1), **given)
    clean = train(run("clean", seed, options, stages=1), **given)
    first = both.folder.path / "snapshots" / "first"
    models = {
        "clean": load(clean.bundle, host=host),
        "stage 0": load(first, host=host),
        "stage 1": load(both.bundle, host=host),
        "mcl": concatenate([first, both.bundle], host=host),
        "ensemble": concatenate([first, other.bundle], host=host),
    }
    found: dict[str, Floats] = {}
    for arm, model in models.items():
        vectors = model.encode(frame)
        for factor in FACTORS:
            for part, right in probe(vectors, frame[factor].to_numpy(), frame["split"].to_numpy()).items():
                found[f"{arm}/{factor}/{part}"] = right
    clusters = pl.read_parquet(both.folder.path / "clusters-clusters.parquet")
    counts = clusters.with_columns(word=frame["word"].gather(clusters["row"])).group_by("cluster", "word").len()
    return found | {"purity": np.array([counts.group_by("cluster").agg(pl.col("len").max())["len"].sum() / len(clusters)])}


def report(found: list[dict[str, Floats]], part: str) -> str:
    """The table, and whether each threshold holds for the mean over seeds."""
    lines = [f"| {part} rows | topic | word |", "|---|---|---|"]
    right = {(arm, factor): np.stack([one[f"{arm}/{factor}/{part}"] for one in found])[..., None] for arm in ARMS for factor in FACTORS}
    mean = {key: float(values.mean()) for key, values in right.items()}
    for arm in ARMS:
        cells = []
        for factor in FACTORS:
            values = right[arm, factor]
            around = interval(values, seed=0)
            seeds = ", ".join(f"{value:.3f}" for value in values.mean(axis=(1, 2)))
            cells.append(f"{around.cells('.3f')[0]} ({seeds})")
        lines.append(f"| {arm} | {' | '.join(cells)} |")
    lines += ["", "| paired difference in topic | |", "|---|---|"]
    for one, two in (("ensemble", "mcl"), ("clean", "mcl"), ("clean", "stage 0"), ("stage 1", "mcl")):
        gap = difference(right[one, "topic"], right[two, "topic"], seed=0)
        lines.append(f"| {two} − {one} | {gap.cells('+.3f')[0]} |")
    holds = (
        mean["stage 0", "topic"] <= mean["clean", "topic"] - 0.1,
        mean["mcl", "topic"] >= mean["ensemble", "topic"] + 0.1,
        mean["mcl", "topic"] >= 0.9 * mean["clean", "topic"],
        mean["stage 1", "word"] <= 0.2,
    )
    purity = ", ".join(f"{one['purity'][0]:.3f}" for one in found)
    lines += ["", f"Share of a cluster's most frequent word: {purity}.", ""]
    lines += [f"- {text}: {'holds' if well else 'fails'}" for text, well in zip(THRESHOLDS, holds, strict=True)]
    return "\n".join(lines) + "\n"


@told()
def main() -> None:
    """Run the study."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("articles", type=Path, help="Parquet file with title and label")
    parser.add_argument("--out", type=Path, required=True, help="folder for results and runs")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=300, help="of each stage")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--copies", type=int, default=3, help="how often the word stands before the title")
    parser.add_argument("--share", type=float, default=0.5, help="words that a view leaves out")
    parser.add_argument("--part", choices=("valid", "test"), default="test", help="rows to report; options are chosen on valid ones")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    only_with(parser, options, ("steps", "batch", "copies", "share"))
    found = []
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        path = options.out / f"right-{seed}.npz"
        if not path.exists():
            made = one_seed(seed, options)
            with atomic_file(path) as beside, beside.open("wb") as file:
                np.savez_compressed(file, allow_pickle=False, **made)
        with np.load(path) as kept:
            found.append(dict(kept))
    text = report(found, options.part)
    atomic_write(options.out / "results.md", text)
    print(text)


if __name__ == "__main__":
    main()
