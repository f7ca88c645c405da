from __future__ import annotations

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest

from embedkit.data.sampler import SamplerContext
from embedkit.errors import UsageError
from embedkit.testing.conformance.sampler import SamplerConformance
from embedkit_training.configs import BucketedConfig, PopularityConfig, ShuffleConfig, UniformConfig
from embedkit_training.samplers import Bucketed, Popularity, Shuffle, Uniform

ROWS = np.arange(50, 73)


class TestShuffle(SamplerConformance):
    def sampler(self, context):
        return Shuffle(ShuffleConfig(), context=context)


class TestShuffleDropLast(SamplerConformance):
    def sampler(self, context):
        return Shuffle(ShuffleConfig(drop_last=True), context=context)


class TestBucketed(SamplerConformance):
    def sampler(self, context):
        lengths = np.random.default_rng(0).integers(1, 50, len(context.rows))
        return Bucketed(BucketedConfig(stretch=2), context=replace(context, columns={"length": lengths}))


class TestPopularity(SamplerConformance):
    def sampler(self, context):
        frequency = np.arange(len(context.rows)) % 5
        return Popularity(PopularityConfig(), context=replace(context, columns={"frequency": frequency}))


class TestUniform(SamplerConformance):
    def sampler(self, context):
        return Uniform(UniformConfig(), context=context)


def test_an_epoch_holds_every_row_once_in_another_order():
    sampler = Shuffle(ShuffleConfig(), context=SamplerContext(ROWS, 5, 0))
    epochs = [np.concatenate(list(islice(sampler, sampler.batches_per_epoch))) for _ in range(2)]
    assert sampler.batches_per_epoch == 5
    for epoch in epochs:
        assert np.array_equal(np.sort(epoch), ROWS)
    assert not np.array_equal(*epochs)


def test_drop_last_leaves_whole_batches():
    sampler = Shuffle(ShuffleConfig(drop_last=True), context=SamplerContext(ROWS, 5, 0))
    assert sampler.batches_per_epoch == 4
    assert {len(batch) for batch in islice(sampler, 9)} == {5}


def test_uniform_repeats_no_row_in_a_batch_and_prefers_none():
    sampler = Uniform(UniformConfig(), context=SamplerContext(ROWS, 10, 0))
    counts = np.zeros(100)
    for batch in islice(sampler, 4000):
        assert len(np.unique(batch)) == 10
        counts[batch] += 1
    expected = 4000 * 10 / len(ROWS)
    assert abs(counts[ROWS] / expected - 1).max() < 0.1


def test_batches_larger_than_the_data_are_refused():
    context = SamplerContext(ROWS, 24, 0)
    with pytest.raises(UsageError, match="a batch of 24 rows without repeats is larger than the data"):
        Uniform(UniformConfig(), context=context)
    with pytest.raises(UsageError, match="drop_last leaves nothing"):
        Shuffle(ShuffleConfig(drop_last=True), context=context)
    with pytest.raises(UsageError, match="no rows to draw from"):
        Shuffle(ShuffleConfig(), context=SamplerContext(ROWS[:0], 1, 0))


def test_buckets_hold_rows_of_one_length_and_every_row_once():
    rows = np.arange(1000)
    lengths = np.random.default_rng(0).geometric(0.1, 1000)
    context = SamplerContext(rows, 20, 0, {"length": lengths})

    def waste(sampler):
        batches = list(islice(sampler, sampler.batches_per_epoch))
        assert np.array_equal(np.sort(np.concatenate(batches)), rows)
        return sum(lengths[b].max() * len(b) for b in batches) / lengths.sum()

    assert waste(Bucketed(BucketedConfig(stretch=50), context=context)) < 1.2
    assert waste(Shuffle(ShuffleConfig(), context=context)) > 2.0
    first, second = (list(islice(Bucketed(BucketedConfig(), context=replace(context, seed=s)), 50)) for s in (0, 1))
    assert [set(b) for b in first] != [set(b) for b in second]


@pytest.mark.parametrize("power", [0.0, 0.75, 1.0])
def test_rows_are_drawn_by_their_frequency(power):
    frequency = np.array([0, 1, 10, 100])
    config = PopularityConfig(power=power)
    sampler = Popularity(config, context=SamplerContext(np.arange(10, 14), 20_000, 0, {"frequency": frequency}))
    drawn = np.bincount(next(iter(sampler)) - 10, minlength=4) / 20_000
    want = np.where(frequency > 0, frequency.astype(float) ** power, 0)
    assert np.allclose(drawn, want / want.sum(), atol=0.015)
    assert np.allclose(Popularity.chances(config, frequency), want / want.sum())


def test_a_table_without_events_has_no_popularity():
    with pytest.raises(UsageError, match="train events point at"):
        Popularity(PopularityConfig(), context=SamplerContext(ROWS, 5, 0, {"frequency": np.zeros(len(ROWS), dtype=np.int64)}))
