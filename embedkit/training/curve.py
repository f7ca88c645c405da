"""The training curve as a picture."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from embedkit.files import atomic_write

Points = list[tuple[int, float]]


def draw_curve(records: Sequence[Mapping[str, Any]], path: Path, *, title: str) -> None:
    """Draw the losses, below them the validation metric, and how watched embeddings lie, over steps.

    Args:
        records: lines of ``metrics.jsonl``; stages follow each other on the axis.
        path: PNG to write.
        title: of the picture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    series = Series.of(records)
    if not series.losses:
        return
    panels = [_draw_losses, *([_draw_valid] if series.valid else []), *([_draw_rank, _draw_alike] if series.watched else [])]
    figure = Figure(figsize=(7.0, 2.6 * len(panels) + 0.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axis, draw in zip(axes, panels, strict=True):
        draw(axis, series)
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    axes[-1].set_xlabel("step")
    axes[0].set_title(title, loc="left", fontsize=10)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=130)
    atomic_write(path, picture.getvalue())


@dataclass
class Series:
    """The points of a picture.

    Attributes:
        losses: name of a loss → points; only the total where there is one loss.
        valid: the validation metric's points.
        metric: its name.
        watched: name of a watched forward → figure → points.
    """

    losses: dict[str, Points] = field(default_factory=dict)
    valid: Points = field(default_factory=list)
    metric: str = ""
    watched: dict[str, dict[str, Points]] = field(default_factory=dict)

    @classmethod
    def of(cls, records: Sequence[Mapping[str, Any]]) -> Series:
        """Read them off the lines of the log."""
        found = cls()
        for step, record in _placed(records):
            if record["kind"] == "train":
                for name, value in record["losses"].items():
                    if "/" not in name:
                        found.losses.setdefault(name, []).append((step, value))
                for name, figures in record.get("watch", {}).items():
                    for figure, value in figures.items():
                        found.watched.setdefault(name, {}).setdefault(figure, []).append((step, value))
            elif record["kind"] == "valid":
                found.metric = record["metric"]
                found.valid.append((step, record["value"]))
        if len(found.losses) == 2:  # one loss and the total are the same line
            found.losses = {"loss": found.losses["loss"]}
        return found


def _placed(records: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Each line with its step, counted on over the stages."""
    base, stage, last = 0, None, 0
    for record in records:
        if stage is not None and record["stage"] != stage:
            base = last
        stage, last = record["stage"], base + record["step"]
        yield last, record


def _draw_losses(axis: Any, series: Series) -> None:
    for name, points in series.losses.items():
        main = name == "loss"
        axis.plot(*zip(*points, strict=True), label=name, linewidth=1.6 if main else 1.0, alpha=1.0 if main else 0.75)
    axis.set_ylabel("training loss")
    if len(series.losses) > 1:
        axis.legend(frameon=False, fontsize=8)


def _draw_valid(axis: Any, series: Series) -> None:
    axis.plot(*zip(*series.valid, strict=True), marker="o", markersize=3, linewidth=1.2, color="tab:green")
    axis.set_ylabel(f"validation {series.metric}")


def _draw_rank(axis: Any, series: Series) -> None:
    for name, figures in series.watched.items():
        axis.plot(*zip(*figures["effective_rank"], strict=True), label=name, linewidth=1.2)
    axis.set_ylim(bottom=0.0)
    axis.set_ylabel("effective rank")
    axis.legend(frameon=False, fontsize=8)


def _draw_alike(axis: Any, series: Series) -> None:
    for i, (name, figures) in enumerate(series.watched.items()):
        axis.plot(*zip(*figures["cosine"], strict=True), label=f"{name}: mean cosine", linewidth=1.2, color=f"C{i}")
        axis.plot(*zip(*figures["std"], strict=True), label="standard deviation", linewidth=1.2, linestyle="--", color=f"C{i}")
    axis.set_ylabel("cosine, deviation")
    axis.legend(frameon=False, fontsize=8)
