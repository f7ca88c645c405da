"""Samplers whose position is two numbers: the epoch, and the batch in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from embedkit.component import Config
from embedkit.data.sampler import BatchSampler, Rows, SamplerContext
from embedkit.errors import UsageError
from embedkit_training.configs import PopularityConfig


class _Positioned(BatchSampler):
    """Keeps the position after the last batch that was yielded."""

    def __init__(self, config: Any, *, context: SamplerContext) -> None:
        super().__init__(config, context=context)
        if len(context.rows) == 0:
            raise UsageError("there are no rows to draw from: the stream's table has no train rows; look at its 'where' and 'split'")
        self._epoch = 0
        self._batch = 0

    def state_dict(self) -> dict[str, int]:
        """The position after the last batch that was yielded."""
        return {"epoch": self._epoch, "batch": self._batch}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Continue from there."""
        self._epoch, self._batch = int(state["epoch"]), int(state["batch"])

    def _advance(self) -> None:
        self._batch += 1
        if self._batch >= self.batches_per_epoch:
            self._epoch, self._batch = self._epoch + 1, 0


class Shuffle(_Positioned):
    """A permutation of all rows each epoch, made from (seed, epoch) alone; batches are its consecutive pieces."""

    def __init__(self, config: Any, *, context: SamplerContext) -> None:
        super().__init__(config, context=context)
        if config.drop_last and len(context.rows) < context.size:
            raise UsageError(
                f"a batch of {context.size} rows is larger than the data ({len(context.rows)} train rows) and drop_last leaves nothing: "
                "choose a smaller size or drop_last = false"
            )

    @property
    def batches_per_epoch(self) -> int:
        """Batches that make an epoch."""
        whole, rest = divmod(len(self.context.rows), self.context.size)
        return whole if self.config.drop_last or rest == 0 else whole + 1

    def __iter__(self) -> Iterator[Rows]:
        """Batches of row numbers, for ever."""
        rows, size = self.context.rows, self.context.size
        order, epoch = self._order(self._epoch), self._epoch
        while True:
            if self._epoch != epoch:
                order, epoch = self._order(self._epoch), self._epoch
            start = self._batch * size
            self._advance()
            yield rows[order[start : start + size]]

    def _order(self, epoch: int) -> Rows:
        return np.random.default_rng([self.context.seed, epoch]).permutation(len(self.context.rows))


class Bucketed(Shuffle):
    """A permutation of all rows each epoch, sorted by length within stretches of some batches; the batches then come in random order.

    Rows of a batch have nearly one length, so little of a padded batch is padding, while rows meet other ones every epoch.
    """

    looks_at = ("length",)

    def _order(self, epoch: int) -> Rows:
        order, size = super()._order(epoch), self.context.size
        lengths, stretch = self.context.columns["length"], size * self.config.stretch
        for start in range(0, len(order), stretch):
            piece = order[start : start + stretch]
            order[start : start + stretch] = piece[np.argsort(lengths[piece], kind="stable")]
        whole = len(order) // size
        shuffled = np.random.default_rng([self.context.seed, epoch, 1]).permutation(whole)
        batches = order[: whole * size].reshape(whole, size)[shuffled].ravel()
        return np.concatenate([batches, order[whole * size :]])


class Uniform(_Positioned):
    """Each batch is drawn uniformly from all rows without replacement, independent of the batches before (Yao et al. 2021, section 3.3)."""

    def __init__(self, config: Any, *, context: SamplerContext) -> None:
        super().__init__(config, context=context)
        if context.size > len(context.rows):
            raise UsageError(
                f"a batch of {context.size} rows without repeats is larger than the data ({len(context.rows)} train rows): "
                "choose a smaller size"
            )

    @property
    def batches_per_epoch(self) -> int:
        """As many batches as would hold all rows."""
        return -(-len(self.context.rows) // self.context.size)

    def __iter__(self) -> Iterator[Rows]:
        """Batches of row numbers, for ever."""
        rows, size = self.context.rows, self.context.size
        while True:
            rng = np.random.default_rng([self.context.seed, self._epoch, self._batch])
            self._advance()
            yield rows[rng.choice(len(rows), size, replace=False, shuffle=False)]


class Popularity(_Positioned):
    """Each row of a batch is drawn, with replacement, with a chance that grows with the train events that point at it."""

    looks_at = ("frequency",)

    def __init__(self, config: PopularityConfig, *, context: SamplerContext) -> None:
        super().__init__(config, context=context)
        chances = self.chances(config, context.columns["frequency"])
        if chances is None:
            raise UsageError("the sampler 'popularity' needs a table that train events point at; use 'uniform', or join the events to it")
        self._up_to = np.cumsum(chances)

    @classmethod
    def chances(cls, config: Config, frequencies: npt.NDArray[np.int64]) -> npt.NDArray[np.float64] | None:
        """See ``BatchSampler.chances``; None where no row has an event."""
        assert isinstance(config, PopularityConfig)
        weights = np.where(frequencies > 0, frequencies.astype(np.float64) ** config.power, 0.0)
        return weights / weights.sum() if weights.any() else None

    @property
    def batches_per_epoch(self) -> int:
        """As many batches as would hold all rows."""
        return -(-len(self.context.rows) // self.context.size)

    def __iter__(self) -> Iterator[Rows]:
        """Batches of row numbers, for ever."""
        while True:
            rng = np.random.default_rng([self.context.seed, self._epoch, self._batch])
            self._advance()
            found = np.searchsorted(self._up_to, rng.random(self.context.size) * self._up_to[-1], side="right")
            yield self.context.rows[np.minimum(found, len(self.context.rows) - 1)]
