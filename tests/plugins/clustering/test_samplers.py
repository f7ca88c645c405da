from __future__ import annotations

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest

from embedkit.data.sampler import SamplerContext
from embedkit.errors import UsageError
from embedkit.testing.conformance.sampler import SamplerConformance
from embedkit_clustering.configs import NoTwoConfig, WithinConfig
from embedkit_clustering.samplers import NoTwoOfACluster, WithinCluster


def grouped(context, groups=9):
    """The context with groups of unequal sizes."""
    n = len(context.rows)
    return replace(context, columns={"group": (np.arange(n) ** 2 // n) % groups})


class TestNoTwo(SamplerConformance):
    def sampler(self, context):
        return NoTwoOfACluster(NoTwoConfig(), context=grouped(context))


class TestWithin(SamplerConformance):
    def sampler(self, context):
        return WithinCluster(WithinConfig(), context=grouped(context, 4))


class TestWithinInTurn(SamplerConformance):
    def sampler(self, context):
        return WithinCluster(WithinConfig(turns="round_robin", small="skip", least=2), context=grouped(context, 5))


SIZES = [40, 25, 25, 10, 5, 3]


def context(sizes=SIZES, size=4, seed=0):
    """Rows 1000, 1001, … in mixed order; the row's group follows from its number."""
    group = np.repeat(np.arange(len(sizes)), sizes)
    order = np.random.default_rng(1).permutation(len(group))
    return SamplerContext(1000 + order, size, seed, {"group": group[order] * 7})


def groups_of(batch, sizes=SIZES):
    return np.repeat(np.arange(len(sizes)), sizes)[batch - 1000]


def epoch(sampler):
    return list(islice(sampler, sampler.batches_per_epoch))


def test_no_batch_holds_two_rows_of_a_group():
    sampler = NoTwoOfACluster(NoTwoConfig(least=1), context=context())
    batches = epoch(sampler)
    assert all(len(np.unique(groups_of(batch))) == len(batch) for batch in batches)
    drawn = np.concatenate(batches)
    assert np.array_equal(np.sort(drawn), np.arange(1000, 1000 + sum(SIZES)))  # each row once
    assert len(batches) == max(40, -(-108 // 4))  # as few batches as the largest group allows
    assert sampler.remarks() == []


def test_short_batches_are_left_out_and_told():
    sampler = NoTwoOfACluster(NoTwoConfig(), context=context())
    first, second = epoch(sampler), epoch(sampler)
    assert all(len(batch) >= 2 for batch in (*first, *second))
    left = 108 - sum(map(len, first))
    assert left > 0
    assert sampler.remarks() == [f"{left} of 108 rows, other ones each time, are left out of an epoch: they are of groups too large"]
    missing = [set(range(1000, 1108)) - set(np.concatenate(batches).tolist()) for batches in (first, second)]
    assert missing[0] != missing[1]


def test_rows_are_dealt_anew_within_groups_each_epoch():
    sampler = NoTwoOfACluster(NoTwoConfig(), context=context([8] * 4))
    first, second = epoch(sampler), epoch(sampler)
    partners = [{tuple(sorted(batch.tolist())) for batch in batches} for batches in (first, second)]
    assert len(first) == 8
    assert not partners[0] & partners[1]


def test_every_batch_is_of_one_group():
    sampler = WithinCluster(WithinConfig(small="skip", least=3), context=context(size=8))
    batches = epoch(sampler)
    assert all(len(np.unique(groups_of(batch))) == 1 for batch in batches)
    counts = np.bincount(groups_of(np.concatenate(batches)), minlength=6)
    assert counts.tolist() == [40, 24, 24, 8, 5, 3]  # a rest below least is left out
    assert len({tuple(b) for b in map(tuple, batches)}) == len(batches)


def test_small_groups_are_united_or_skipped_and_told():
    skipped = WithinCluster(WithinConfig(small="skip"), context=context(size=12))
    assert skipped.remarks() == ["2 of 6 groups have fewer than 6 rows: their 8 rows are never drawn"]
    assert set(groups_of(np.concatenate(epoch(skipped)))) == {0, 1, 2, 3}
    united = WithinCluster(WithinConfig(), context=context(size=12))
    assert united.remarks() == ["2 of 6 groups have fewer than 6 rows and are drawn as one group"]
    assert {tuple(sorted(set(groups_of(batch)))) for batch in epoch(united)} == {(0,), (1,), (2,), (3,), (4, 5)}
    none = WithinCluster(WithinConfig(), context=context([8, 8], size=4))
    assert none.remarks() == []


def test_groups_take_turns():
    sampler = WithinCluster(WithinConfig(turns="round_robin", small="skip", least=3), context=context(size=8))
    seen = [int(groups_of(batch)[0]) for batch in epoch(sampler)]
    counts = np.bincount(seen, minlength=6)
    assert counts.max() - counts.min() <= 1
    in_proportion = WithinCluster(WithinConfig(small="skip", least=3), context=context(size=8))
    assert np.bincount([int(groups_of(b)[0]) for b in epoch(in_proportion)], minlength=6).max() == 5


def test_what_cannot_be_done_is_refused():
    bare = SamplerContext(np.arange(10), 4, 0)
    with pytest.raises(UsageError, match=r"NoTwoOfACluster: the stream does not say what its groups are: set groups = \{ stage"):
        NoTwoOfACluster(NoTwoConfig(), context=bare)
    with pytest.raises(UsageError, match="3 groups cannot fill a batch of 8 rows of different groups"):
        NoTwoOfACluster(NoTwoConfig(), context=context([9, 9, 9], size=16))
    with pytest.raises(UsageError, match="none of 2 groups has 8 rows"):
        WithinCluster(WithinConfig(small="skip"), context=context([3, 3], size=16))
