"""The training curve as a picture."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from embedkit.files import atomic_write


def draw_curve(records: Sequence[Mapping[str, Any]], path: Path, *, title: str) -> None:
    """Draw the losses, and below them the validation metric, over steps.

    Args:
        records: lines of ``metrics.jsonl``; stages follow each other on the axis.
        path: PNG to write.
        title: of the picture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    losses, valid, metric = series(records)
    if not losses:
        return
    rows = 2 if valid else 1
    figure = Figure(figsize=(7.0, 2.6 * rows + 0.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, 1, sharex=True, squeeze=False)[:, 0]
    for name, points in losses.items():
        main = name == "loss"
        axes[0].plot(*zip(*points, strict=True), label=name, linewidth=1.6 if main else 1.0, alpha=1.0 if main else 0.75)
    axes[0].set_ylabel("training loss")
    if len(losses) > 1:
        axes[0].legend(frameon=False, fontsize=8)
    if valid:
        axes[1].plot(*zip(*valid, strict=True), marker="o", markersize=3, linewidth=1.2, color="tab:green")
        axes[1].set_ylabel(f"validation {metric}")
    for axis in axes:
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    axes[-1].set_xlabel("step")
    axes[0].set_title(title, loc="left", fontsize=10)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=130)
    atomic_write(path, picture.getvalue())


def series(
    records: Sequence[Mapping[str, Any]],
) -> tuple[dict[str, list[tuple[int, float]]], list[tuple[int, float]], str]:
    """Loss name → points, the validation points, and the validation metric's name."""
    losses: dict[str, list[tuple[int, float]]] = {}
    valid: list[tuple[int, float]] = []
    metric, base, stage, last = "", 0, None, 0
    for record in records:
        if stage is not None and record["stage"] != stage:
            base = last
        stage, last = record["stage"], base + record["step"]
        step = last
        if record["kind"] == "train":
            for name, value in record["losses"].items():
                if "/" not in name:
                    losses.setdefault(name, []).append((step, value))
        elif record["kind"] == "valid":
            metric = record["metric"]
            valid.append((step, record["value"]))
    if len(losses) == 2:  # one loss and the total are the same line
        losses = {"loss": losses["loss"]}
    return losses, valid, metric
