"""View and Augmentation: what a loss looks at, and what makes it.

Every stream's untouched batch is a view named after the stream; an augmentation adds views to a stage (``[[stages]] views``).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from torch import Generator, Tensor

from embedkit.component import Component
from embedkit.data.batch import Batch

Fill = Literal["replace", "drop"]


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
        params: what was drawn (mix coefficients, shifts, crops), for losses that read it.
    """

    batch: Batch
    fields: tuple[str, ...] | None = None
    hidden: Mapping[str, Tensor] = field(default_factory=dict)
    hidden_values: Mapping[str, Tensor] = field(default_factory=dict)
    fill: Fill = "replace"
    origin: Tensor | None = None
    params: Mapping[str, Tensor] = field(default_factory=dict)


Views = dict[str, View]


@dataclass(frozen=True)
class Random:
    """The generators of one step. Both live on the CPU and are part of a checkpoint.

    ``shared`` is equal on all ranks (which fields a batch hides); ``local`` is the rank's own (which values of a row are dropped).
    """

    shared: Generator
    local: Generator


class Augmentation(Component):
    """Makes one or more linked views of a view in one draw."""

    @abstractmethod
    def __call__(self, view: View, random: Random) -> Sequence[View]:
        """Return the views, in the order of the run file's ``makes``."""
