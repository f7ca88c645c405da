"""View and Augmentation: what a loss looks at, and what makes it.

Every stream's untouched batch is a view named after the stream; an augmentation adds views to a stage (``[[stages]] views``).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from torch import Generator, Tensor

from embedkit.component import Component
from embedkit.data.batch import Batch
from embedkit.schema import Schema

Fill = Literal["replace", "drop"]


@dataclass(frozen=True, eq=False)
class Mix:
    """A second view whose tokens are mixed in: row i's are ``share * own[i] + (1 - share) * other[rows[i]]``, after the encoders.

    Categories and lists have no mixture, their tokens have. A token that only one of the two rows has is mixed with zeros.

    Attributes:
        other: the second view, of as many rows.
        rows: int64 [B], which of its rows goes with each.
        share: of the view's own tokens, 0 to 1.
    """

    other: View
    rows: Tensor
    share: float


@dataclass(frozen=True, eq=False)
class View:
    """A batch as one augmentation left it.

    Attributes:
        batch: the rows.
        fields: restricts a tower to these fields; None keeps all.
        hidden: field → bool [B], True in rows where the model must not see the field at all, not even how many values it has.
            Encoders honour it; changing a hidden value changes no output.
        hidden_values: ragged field → bool [T], True where the model must not see a single value of a list. A mapping of its own,
            because B and T may be equal.
        fill: ``replace`` puts the field's learned default embedding where a value is hidden; ``drop`` takes its token out.
        origin: int64 [B'], the row of the untouched batch that each row came from; None for one to one.
        params: what was drawn (shifts, crops, masks of targets), for losses that read it.
        mix: a second view whose tokens the model mixes in.
    """

    batch: Batch
    fields: tuple[str, ...] | None = None
    hidden: Mapping[str, Tensor] = field(default_factory=dict)
    hidden_values: Mapping[str, Tensor] = field(default_factory=dict)
    fill: Fill = "replace"
    origin: Tensor | None = None
    params: Mapping[str, Tensor] = field(default_factory=dict)
    mix: Mix | None = None


Views = dict[str, View]


@dataclass(frozen=True)
class Random:
    """The generators of one step. Both live on the CPU and are part of a checkpoint.

    ``shared`` is equal on all ranks (which fields a batch hides); ``local`` is the rank's own (which values of a row are dropped).
    """

    shared: Generator
    local: Generator


@dataclass(frozen=True)
class AugmentationContext:
    """What an augmentation is built from besides its options.

    Attributes:
        schema: fields and towers.
        table: table whose rows the stream draws.
        fields: the fields that the stream's batches hold, in the schema's order.
        makes: how many views the run file names.
        mutual_information: fields of ``table`` → float64 [k, k], in nats, bias corrected (decision 15). Slow: call it once.
    """

    schema: Schema
    table: str
    fields: tuple[str, ...]
    makes: int
    mutual_information: Callable[[Sequence[str]], npt.NDArray[np.float64]]


class Augmentation(Component):
    """Makes one or more linked views of a view in one draw. ``config`` is its options, ``context`` an ``AugmentationContext``."""

    context: AugmentationContext

    def __init__(self, config: Any, *, context: AugmentationContext) -> None:
        super().__init__(config, context=context)

    @abstractmethod
    def __call__(self, view: View, random: Random) -> Sequence[View]:
        """Return the views, in the order of the run file's ``makes``."""

    def among(self, view: View, views: Mapping[str, View], random: Random) -> Sequence[View]:
        """What a stage calls: ``views`` holds its streams and the views made so far. Only an augmentation of several views needs it."""
        return self(view, random)
