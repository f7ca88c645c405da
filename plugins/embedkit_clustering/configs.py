"""Options of the stages and samplers. No torch here."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from embedkit.component import Config
from embedkit.config.references import TowerName


class ClusterConfig(Config):
    """Options of ``cluster``."""

    use: Literal["cluster"] = "cluster"
    """Name of this stage's kind."""
    name: str | None = None
    """Name of the stage, which streams refer to; its number when left out."""
    tower: TowerName
    """Tower whose embeddings are clustered, of its table's train rows."""
    k: int = Field(10, ge=2)
    """Number of clusters."""
    method: Literal["minibatch", "full"] = "minibatch"
    """``minibatch``: mini-batch k-means; ``full``: Lloyd's algorithm on all rows."""
    restarts: int = Field(3, ge=1)
    """Starts of which the best is kept."""
    combine: list[str] = []
    """Earlier ``cluster`` stages of the same table: rows then share a group only if they shared a cluster in each of them too, as
    multistage contrastive learning wants (at most k times as many groups for each)."""


class SnapshotConfig(Config):
    """Options of ``snapshot``."""

    use: Literal["snapshot"] = "snapshot"
    """Name of this stage's kind."""
    name: str | None = None
    """Name of the stage, and of the bundle's folder below ``snapshots/``; its number when left out."""
    restart: bool = False
    """Draw all weights anew for the stages that follow; else they go on with the model as it is."""


class NoTwoConfig(Config):
    """Options of ``no_two_of_a_cluster``."""

    least: int | None = Field(None, ge=1)
    """Batches with fewer rows are left out; half of the size when left out. Only where a group holds more than its share of the rows do
    batches run short: each epoch then leaves out other rows of the large groups."""


class WithinConfig(Config):
    """Options of ``within_cluster``."""

    least: int | None = Field(None, ge=1)
    """Batches with fewer rows are left out, and so are groups with fewer rows; half of the size when left out."""
    small: Literal["unite", "skip"] = "unite"
    """What becomes of groups with fewer rows than that: ``unite`` them to one group, or ``skip`` them (as the paper's code does)."""
    turns: Literal["proportional", "round_robin"] = "proportional"
    """``proportional``: every row about once an epoch, in random order of batches; ``round_robin``: the groups in turn, each as often as
    the others, whatever their sizes (as the paper's code does)."""
