"""Run the evaluators of a plan, and keep what they found beside the run."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import torch

from embedkit.evaluate.base import Estimate, EvaluateContext, Evaluator
from embedkit.files import atomic_file, atomic_write

if TYPE_CHECKING:
    import polars as pl

    from embedkit.config.plan import Plan
    from embedkit.data.store import Store
    from embedkit.nn.model import Model

FILE = "evaluation.json"


def evaluate_run(
    plan: Plan,
    model: Model,
    store: Store,
    *,
    split: Literal["valid", "test"],
    folder: Path | None = None,
    quick: bool = False,
    max_queries: int | None = None,
    device: torch.device | str = "cpu",
    precision: torch.dtype = torch.float32,
    seed: int | None = None,
) -> list[Estimate]:
    """Run every evaluator of the plan on one split.

    Args:
        plan: the resolved run file.
        model: on ``device``; put in eval mode while measured, and back into the mode it had.
        store: opened tables with codecs.
        split: ``valid`` or ``test``.
        folder: where per-query tables are written (``queries-<split>.parquet``); None keeps none.
        quick: as while training: no intervals, baselines, slices or tables.
        max_queries: measure on at most so many queries.
        device: where the model is.
        precision: of the forwards; ranks are always taken from float32 scores.
        seed: of ties and resampling; the run's when left out.

    Returns:
        The estimates in run-file order, each with the name of its evaluator: the component's, with ``-2`` and so on where
        it is used again.
    """
    found: list[Estimate] = []
    training = model.training
    model.eval()
    try:
        for name, part in zip(names(plan), plan.evaluators, strict=True):
            context = EvaluateContext(
                model=model,
                store=store,
                split=split,
                device=torch.device(device),
                seed=plan.config.seed if seed is None else seed,
                save_table=_keeper(folder, name),
                quick=quick,
                max_queries=max_queries,
                precision=precision,
            )
            evaluator = cast(Evaluator, part.create(None))
            found += [replace(estimate, evaluator=name) for estimate in evaluator.run(context)]
    finally:
        model.train(training)
    return found


def names(plan: Plan) -> list[str]:
    """The names that the plan's evaluators report under, in order."""
    used: dict[str, int] = {}
    out = []
    for part in plan.evaluators:
        used[part.entry.name] = used.get(part.entry.name, 0) + 1
        out.append(part.entry.name if used[part.entry.name] == 1 else f"{part.entry.name}-{used[part.entry.name]}")
    return out


def means(estimates: Sequence[Estimate]) -> dict[str, float]:
    """The model's own figures over all queries, by metric: what a progress line shows and early stopping looks at.

    Where two evaluators report one metric, the first counts; the other's is under ``<evaluator>/<metric>``.
    """
    out: dict[str, float] = {}
    for one in estimates:
        if one.model == "model" and one.slice is None:
            out[one.metric if one.metric not in out else f"{one.evaluator}/{one.metric}"] = one.value
    return out


def write_evaluation(folder: Path, estimates: Sequence[Estimate], *, plan: Plan, split: str, seed: int | None = None) -> Path:
    """Write ``evaluation.json`` in a run's folder; what it holds of the other split stays.

    The file has, by split, the seed, the evaluators with all their options (``exclude_seen`` among them) and the estimates.
    """
    path = folder / FILE
    splits = read_evaluation(folder)["splits"] if path.exists() else {}
    splits[split] = {
        "seed": plan.config.seed if seed is None else seed,
        "evaluators": {name: part.to_json() for name, part in zip(names(plan), plan.evaluators, strict=True)},
        "estimates": [_to_json(estimate) for estimate in estimates],
    }
    atomic_write(path, json.dumps({"format": 1, "splits": splits}, indent=1, allow_nan=False) + "\n")
    return path


def read_evaluation(folder: Path) -> dict[str, Any]:
    """Read what ``write_evaluation`` wrote; estimates stay dicts with the attributes of ``Estimate``."""
    return cast("dict[str, Any]", json.loads((folder / FILE).read_text(encoding="utf-8")))


def table_rows(estimates: Sequence[Estimate]) -> list[dict[str, str]]:
    """Rows of a table for people: one a metric and slice, one column for the model and each baseline.

    Cells read ``0.2345 [0.2301, 0.2389]``; figures without an interval stand alone.
    """
    rows: dict[tuple[str, str | None, str], dict[str, str]] = {}
    several = len({estimate.evaluator for estimate in estimates}) > 1
    for one in estimates:
        row = rows.setdefault((one.evaluator, one.slice, one.metric), {})
        if not row:
            row |= {"evaluator": one.evaluator} if several else {}
            row |= {"metric": one.metric, "slice": one.slice or "all", "n": str(one.n)}
        row[one.model] = f"{one.value:.4f}" if one.low is None else f"{one.value:.4f} [{one.low:.4f}, {one.high:.4f}]"
    return list(rows.values())


def _keeper(folder: Path | None, evaluator: str) -> Any:
    """Writes an evaluator's tables as Parquet; a repeated evaluator's tables carry its number."""
    number = evaluator.rpartition("-")[2]
    suffix = f"-{number}" if number.isdigit() else ""

    def keep(name: str, frame: pl.DataFrame) -> None:
        if folder is not None:
            with atomic_file(folder / f"{name}{suffix}.parquet") as beside:
                frame.write_parquet(beside)

    return keep


def _to_json(estimate: Estimate) -> dict[str, Any]:
    """A dict without NaN, which JSON cannot say: a figure over nothing is null."""
    return {key: None if isinstance(v, float) and math.isnan(v) else v for key, v in asdict(estimate).items()}
