"""Compare runs: the paired bootstrap of the difference over the same queries (decision 22).

Runs that differ in nothing but their seed are one *arm*; its figure for a query is the mean over its seeds, and a resample draws users
and, for each arm, seeds. The first arm is what the others are compared with.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from embedkit.errors import UsageError
from embedkit.evaluate.estimate import difference
from embedkit.evaluate.metrics import Floats, Ints
from embedkit.evaluate.run import read_evaluation
from embedkit.evaluate.table import KEYS
from embedkit.runs import RunFolder
from embedkit.space import canonical_json


@dataclass(frozen=True)
class Comparison:
    """One metric of two arms on the same queries.

    Attributes:
        metric: such as ``ndcg@10``.
        first: name of the arm that is compared with.
        second: name of the other arm.
        first_value: its mean over queries and seeds.
        second_value: the other's.
        difference: second minus first.
        low: lower bound of the 95% interval of the difference; None with a single user.
        high: upper bound.
        p: two-sided bootstrap p-value; None with a single user.
        queries: paired queries.
        seeds: runs of the two arms.
    """

    metric: str
    first: str
    second: str
    first_value: float
    second_value: float
    difference: float
    low: float | None
    high: float | None
    p: float | None
    queries: int
    seeds: tuple[int, int]


@dataclass(frozen=True, eq=False)
class _Run:
    """One run's figures of one evaluator and model."""

    folder: Path
    arm: bytes
    exclude_seen: bool | None
    frame: pl.DataFrame


def compare(
    runs: Sequence[Path | str], *, split: str = "test", model: str = "model", seed: int = 0, resamples: int = 2000
) -> list[Comparison]:
    """Compare two or more arms, given as the folders of their runs.

    Args:
        runs: run folders; runs whose resolved run files are equal but for the seed are put together.
        split: which split's figures.
        model: whose figures: ``model``, or a baseline that all runs have.
        seed: of the resampling.
        resamples: how many.

    Raises:
        UsageError: fewer than two arms, a folder without an evaluation of the split, or runs that were asked different
            things: other queries, other targets, another ``exclude_seen``.
    """
    loaded = [_load(RunFolder.open(Path(run)), split, model) for run in runs]
    arms: dict[bytes, list[_Run]] = {}
    for run in loaded:
        arms.setdefault(run.arm, []).append(run)
    if len(arms) < 2:
        raise UsageError(f"compare wants runs of at least two run files, found {len(loaded)} run(s) that differ in their seed alone")
    for run in loaded[1:]:
        _require_same(loaded[0], run)
    first, *others = arms.values()
    return [one for other in others for one in _compare(first, other, seed, resamples)]


def _load(folder: RunFolder, split: str, model: str) -> _Run:
    for needed in (folder.resolved, folder.evaluation, folder.queries(split)):
        if not needed.is_file():
            raise UsageError(f"{needed}: there is no such file; evaluate the run on its {split} split first")
    config = tomllib.loads(folder.resolved.read_text(encoding="utf-8"))
    for key in ("seed", "evaluate_on"):  # neither tells what was trained
        config.pop(key, None)
    evaluation = read_evaluation(folder)["splits"].get(split)
    frame = pl.read_parquet(folder.queries(split)).filter(pl.col("model") == model)
    if evaluation is None or not len(frame):
        raise UsageError(f"{folder.path}: has no figures of '{model}' on the {split} split; evaluate it there first")
    options = next(iter(evaluation["evaluators"].values()))["options"]
    return _Run(folder.path, canonical_json(_plain(config)), options.get("exclude_seen"), frame)


def _require_same(first: _Run, other: _Run) -> None:
    """Raise UsageError unless both runs were asked the same."""
    if first.exclude_seen != other.exclude_seen:
        raise UsageError(
            f"{first.folder} was evaluated with exclude_seen = {first.exclude_seen}, {other.folder} with {other.exclude_seen}: "
            "their figures cannot be compared; evaluate both alike"
        )
    asked = ["query", "user", "targets"]
    if first.frame.height != other.frame.height or not first.frame.select(asked).equals(other.frame.select(asked)):
        raise UsageError(
            f"{first.folder} ({first.frame.height} queries) and {other.folder} ({other.frame.height}) were evaluated on different "
            "queries or targets: train and evaluate both on the same tables with the same split"
        )


def _compare(first: list[_Run], second: list[_Run], seed: int, resamples: int) -> list[Comparison]:
    frame = first[0].frame
    metrics = [c for c in frame.columns if c not in KEYS and all(c in run.frame.columns for run in (*first, *second))]
    users: Ints = frame["user"].to_numpy()
    arms = [_values(first, metrics), _values(second, metrics)]
    found = difference(arms[0], arms[1], seed=seed, users=users, resamples=resamples)
    values = [arm.mean(axis=(0, 1)) for arm in arms]
    return [
        Comparison(
            metric=metric,
            first=first[0].folder.name,
            second=second[0].folder.name,
            first_value=float(values[0][i]),
            second_value=float(values[1][i]),
            difference=float(found.value[i]),
            low=_number(found.low[i]),
            high=_number(found.high[i]),
            p=_number(found.p[i]),
            queries=len(users),
            seeds=(len(first), len(second)),
        )
        for i, metric in enumerate(metrics)
    ]


def _values(arm: list[_Run], metrics: list[str]) -> Floats:
    """[S, Q, m]."""
    return np.stack([run.frame.select(metrics).to_numpy() for run in arm])


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _plain(value: Any) -> Any:
    """TOML values as JSON ones: dates as text."""
    if isinstance(value, dict):
        return {key: _plain(v) for key, v in value.items()}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return value if isinstance(value, (str, int, float, bool)) else str(value)
