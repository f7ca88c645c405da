"""What the losses of this package have in common: the tower is there, views are of one draw, and copies of a row are known."""

from __future__ import annotations

from torch import Tensor

from embedkit.errors import UsageError
from embedkit.training.loss import LossContext, Step


def require_tower(loss: str, tower: str, context: LossContext) -> None:
    """Raise ``UsageError`` unless there is such a tower."""
    if tower not in context.schema.towers:
        raise UsageError(f"{loss}: tower = '{tower}' is no tower; the towers are {', '.join(context.schema.towers)}")


def require_pairs(loss: str, views: tuple[str, str], first: Tensor, second: Tensor) -> None:
    """Raise ``UsageError`` unless row i of one view is row i of the other."""
    if first.shape != second.shape:
        raise UsageError(
            f"{loss}: views '{views[0]}' and '{views[1]}' have {first.shape[0]} and {second.shape[0]} rows: they must come from one draw"
        )


def table_rows(step: Step, view: str, table: str, size: int) -> Tensor | None:
    """Which row of a table each of the ``size`` rows of a view is, int64 [size]; None where the view does not say.

    Unknown rows (-1) are no copies of each other.
    """
    rows = step.views[view].batch.rows.get(table)
    return None if rows is None or rows.shape[0] != size else rows
