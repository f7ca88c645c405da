"""What every batch sampler must do. A plugin's test module subclasses ``SamplerConformance`` and says how the sampler is made."""

from __future__ import annotations

import json
from abc import abstractmethod
from itertools import islice

import numpy as np

from embedkit.data.sampler import BatchSampler, Rows, SamplerContext

ROWS = np.arange(100, 137, dtype=np.int64)
SIZE = 8


class SamplerConformance:
    """Inherit, say how the sampler is made, and let pytest run it."""

    @abstractmethod
    def sampler(self, context: SamplerContext) -> BatchSampler:
        """A new sampler."""

    def make(self, seed: int = 0) -> BatchSampler:
        """A sampler of a few rows."""
        return self.sampler(SamplerContext(ROWS, SIZE, seed))

    def test_batches_are_rows(self) -> None:
        """int64 row numbers out of those given, at most ``size`` of them, for ever."""
        sampler = self.make()
        assert sampler.batches_per_epoch >= 1
        for batch in islice(sampler, 3 * sampler.batches_per_epoch + 1):
            assert batch.dtype == np.int64
            assert 1 <= len(batch) <= SIZE
            assert np.isin(batch, ROWS).all()

    def test_the_seed_decides(self) -> None:
        """Equal seeds give equal batches, other seeds others."""
        first, again, other = (_take(self.make(seed), 12) for seed in (3, 3, 4))
        assert _equal(first, again)
        assert not _equal(first, other)

    def test_continues_from_any_position(self) -> None:
        """A new sampler that loads a position yields what would have followed, across epochs too."""
        count = 2 * self.make().batches_per_epoch + 2
        whole = _take(self.make(), count + 5)
        for done in range(count):
            sampler = self.make()
            _take(sampler, done)
            state = json.loads(json.dumps(sampler.state_dict()))
            fresh = self.make()
            fresh.load_state_dict(state)
            assert fresh.state_dict() == state
            assert _equal(_take(fresh, 5), whole[done : done + 5]), f"after {done} batches"

    def test_iterating_anew_goes_on(self) -> None:
        """A second iterator starts where the first one stopped."""
        sampler, whole = self.make(), _take(self.make(), 6)
        assert _equal(_take(sampler, 3) + _take(sampler, 3), whole)


def _take(sampler: BatchSampler, count: int) -> list[Rows]:
    return list(islice(sampler, count))


def _equal(first: list[Rows], second: list[Rows]) -> bool:
    return len(first) == len(second) and all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
