"""Loss, and the Step it pulls its forwards from."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn

from embedkit.component import Component
from embedkit.config.model import Schedule
from embedkit.nn.values import Outputs
from embedkit.schema import Schema
from embedkit.views import Random, View

if TYPE_CHECKING:
    from embedkit.data.codec import Codec
    from embedkit.index.base import Index
    from embedkit.space import Metric

CATALOGUE = "*"
"""In place of a view's name: all rows of the tower's table, in their order. Its ``View`` is not among ``Step.views``."""


@dataclass(frozen=True)
class Forward:
    """One forward that a loss will ask for.

    Attributes:
        view: stream or view, or the ``CATALOGUE``.
        tower: which tower.
        network: the student, or another network of the stage.
        layers: depths of the trunk whose token states it reads.
        tokens: whether it reads the tokens after the trunk; a batch that is cut into pieces keeps them only then, or with ``layers``.
    """

    view: str
    tower: str
    network: str = "student"
    layers: tuple[int, ...] = ()
    tokens: bool = False


@dataclass(frozen=True)
class Needs:
    """What a loss will pull from a step; checked before training, and planned so that no forward runs twice (decision 13)."""

    forwards: tuple[Forward, ...] = ()
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class LossContext:
    """What a loss is built from besides its options.

    Attributes:
        schema: fields and towers.
        tower_dims: tower → embedding width E.
        token_dim: token width D.
        views: names of the stage's streams and views.
        frequencies: table → int64 [M]: how many train events point at each row of that table (ones for a table without events).
            Called lazily; the tensor lives on the CPU.
        rows: table → number of rows M.
        precision: type that large products may take: that of the forwards.
        index: (width, metric) → an empty index of the backend that the run file names; one thread, so that it is built the same every time.
        chances: stream or view → the chance of each row of its table in one draw of its sampler, float32 [M]; None where all are alike.
        codecs: field → fitted codec, for losses that read labels or tell a field's values; its ``stats`` say how many there are.
        normalized: tower → whether its embeddings have unit length.
    """

    schema: Schema
    tower_dims: Mapping[str, int]
    token_dim: int
    views: tuple[str, ...]
    frequencies: Callable[[str], Tensor]
    rows: Mapping[str, int]
    precision: torch.dtype = torch.float32
    chances: Callable[[str], Tensor | None] = lambda view: None
    index: Callable[[int, Metric], Index] | None = None
    codecs: Mapping[str, Codec] = field(default_factory=dict)
    normalized: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class LossResult:
    """A loss's value.

    Attributes:
        loss: scalar with gradient. Over an empty selection it is a zero that depends on no input.
        parts: further scalars for the log, detached.
        keep: detached tensors handed to ``after_update``.
    """

    loss: Tensor
    parts: Mapping[str, Tensor] = field(default_factory=dict)
    keep: Mapping[str, Tensor] = field(default_factory=dict)


class Step(Protocol):
    """One training step as a loss sees it."""

    @property
    def views(self) -> Mapping[str, View]:
        """Streams and augmented views by name."""

    @property
    def progress(self) -> float:
        """Share of the stage that is done, 0 to 1."""

    @property
    def random(self) -> Random:
        """The step's generators."""

    def run(self, view: str, tower: str, network: str = "student", layers: tuple[int, ...] = ()) -> Outputs:
        """The outputs of a tower for a view; computed once a step whoever asks. Networks other than the student run without gradient."""

    def value(self, number: float | Schedule) -> float:
        """What a scheduled option is at this step."""

    def rows(self, tower: str, rows: Tensor) -> Outputs:
        """The student's outputs of a tower for rows (int64 [R]) of its table that a loss picked itself, with gradient."""

    def snapshot(self, tower: str) -> Tensor:
        """The embeddings of all rows of a tower's table as they are now, float32 [M, E], without gradient or dropout. Slow."""

    def narrow(self, dim: int) -> Step:
        """The same step with every output cut to its first ``dim`` numbers."""


class Loss(Component, nn.Module):
    """Base of losses. Predictors, prototypes and queues are submodules and buffers of the loss; buffers change in ``after_update`` only."""

    per_prefix: bool = False
    """True: called once for each prefix of the head with a narrowed step; the value is the mean over prefixes (MRL with equal weights)."""
    context: LossContext

    @property
    @abstractmethod
    def needs(self) -> Needs:
        """The forwards and labels it will pull."""

    @property
    def watch(self) -> tuple[Forward, ...]:
        """Forwards whose embeddings are watched for collapse (``embedkit.training.watch``), of those it needs.

        Unless a loss says otherwise: the first one of a loss that looks at one tower alone, in two ways or more, as losses without
        labels do.
        """
        forwards = self.needs.forwards
        ways = {(forward.network, forward.view) for forward in forwards}
        return forwards[:1] if len(ways) > 1 and len({forward.tower for forward in forwards}) == 1 else ()

    @abstractmethod
    def forward(self, step: Step) -> LossResult:
        """The loss of one step."""

    def after_update(self, step: Step, kept: Mapping[str, Tensor]) -> None:
        """Called after the optimiser's step with what ``forward`` kept: the place to change queues, centres and prototypes.

        With several processes each keeps what is of its own shard; afterwards all take the first one's buffers, so what should see the
        whole batch is gathered first (``embedkit.nn.gather``).
        """


def zero(like: Tensor) -> Tensor:
    """A defined zero for an empty selection: backward through it works and gives zero gradients, never NaN."""
    return like.new_zeros((), dtype=torch.float32) + 0.0 * like.float().nan_to_num(0.0, 0.0, 0.0).sum()
