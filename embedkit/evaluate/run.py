"""Run the evaluators of a plan, and keep what they found beside the run."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, Literal, cast

import torch

from embedkit.errors import BundleError
from embedkit.evaluate.base import Estimate, EvaluateContext, Evaluator
from embedkit.files import atomic_file, atomic_write

if TYPE_CHECKING:
    import polars as pl

    from embedkit.config.plan import Plan
    from embedkit.data.store import Store
    from embedkit.nn.model import Model
    from embedkit.runs import RunFolder


def evaluate_run(
    plan: Plan,
    model: Model,
    store: Store,
    *,
    split: Literal["valid", "test"],
    folder: RunFolder | None = None,
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
        folder: run whose folder gets the tables of per-query figures (``queries-<split>.parquet``); None keeps none.
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
    taken: set[str] = set()
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
                save_table=_keeper(folder, name, taken),
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
        if one.model == "model" and one.slice is None and one.prefix is None:
            out[one.metric if one.metric not in out else f"{one.evaluator}/{one.metric}"] = one.value
    return out


def write_evaluation(folder: RunFolder, estimates: Sequence[Estimate], *, plan: Plan, split: str, seed: int | None = None) -> None:
    """Write the run's ``evaluation.json``; what it already holds of the other split stays, behind the new figures.

    ``estimates`` lists every figure with its split; ``splits`` says for each split the seed and the evaluators with all
    their options, ``exclude_seen`` among them.
    """
    old = read_evaluation(folder) if folder.evaluation.exists() else {"splits": {}, "estimates": []}
    asked = {name: part.to_json() for name, part in zip(names(plan), plan.evaluators, strict=True)}
    content = {
        "format": 1,
        "splits": old["splits"] | {split: {"seed": plan.config.seed if seed is None else seed, "evaluators": asked}},
        "estimates": [_to_json(estimate, split) for estimate in estimates]
        + [estimate for estimate in old["estimates"] if estimate["split"] != split],
    }
    atomic_write(folder.evaluation, json.dumps(content, indent=1, allow_nan=False) + "\n")


def read_evaluation(folder: RunFolder) -> dict[str, Any]:
    """Read what ``write_evaluation`` wrote; estimates are dicts with the attributes of ``Estimate`` and ``split``.

    Raises:
        BundleError: the file is damaged.
    """
    try:
        return cast("dict[str, Any]", json.loads(folder.evaluation.read_text(encoding="utf-8")))
    except ValueError:
        raise BundleError(f"{folder.evaluation}: is no JSON; evaluate the run again") from None


def table_rows(estimates: Sequence[Estimate]) -> list[dict[str, str]]:
    """Rows of a table for people: one a metric, slice and prefix, one column for the model and each baseline.

    Cells read ``0.2345 [0.2301, 0.2389]``; figures without an interval stand alone.
    """
    rows: dict[tuple[str, str | None, int | None, str], dict[str, str]] = {}
    nested = any(estimate.prefix is not None for estimate in estimates)
    several = len({estimate.evaluator for estimate in estimates}) > 1
    for one in estimates:
        row = rows.setdefault((one.evaluator, one.slice, one.prefix, one.metric), {})
        if not row:
            row |= {"evaluator": one.evaluator} if several else {}
            row |= {"metric": one.metric, "slice": one.slice or "all"}
            row |= {"prefix": str(one.prefix or "")} if nested else {}
            row |= {"n": str(one.n)}
        row[one.model] = f"{one.value:.4f}" if one.low is None else f"{one.value:.4f} [{one.low:.4f}, {one.high:.4f}]"
    return list(rows.values())


def _keeper(folder: RunFolder | None, evaluator: str, taken: set[str]) -> Any:
    """Writes an evaluator's tables as Parquet; a repeated evaluator's tables carry its number, and a name that another evaluator took
    already is followed by this one's."""
    number = evaluator.rpartition("-")[2]
    suffix = f"-{number}" if number.isdigit() else ""

    def keep(name: str, frame: pl.DataFrame) -> None:
        file = f"{name}{suffix}"
        file = file if file not in taken else f"{name}-{evaluator}"
        taken.add(file)
        if folder is not None:
            with atomic_file(folder.path / f"{file}.parquet") as beside:
                frame.write_parquet(beside)

    return keep


def _to_json(estimate: Estimate, split: str) -> dict[str, Any]:
    """A dict without NaN, which JSON cannot say: a figure over nothing is null."""
    found = {"split": split} | asdict(estimate)
    return {key: None if isinstance(v, float) and math.isnan(v) else v for key, v in found.items()}
