"""Samplers that mind groups: a cluster of an earlier stage, or a category of the row.

Two papers want opposite batches. G-SimCLR keeps rows of one cluster apart, so that negatives are no hidden positives; MCL puts only rows
of one cluster together, so that negatives cannot be told apart by what earlier stages learned.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from embedkit.data.sampler import BatchSampler, Rows, SamplerContext
from embedkit.errors import UsageError
from embedkit_clustering.configs import NoTwoConfig, WithinConfig


class GroupSampler(BatchSampler):
    """An epoch is a list of batches that is made from (seed, epoch) alone, so a position is two numbers.

    Attributes:
        members: for each group the positions of its rows, in the order of the groups' numbers.
        least: rows below which a batch is left out.
    """

    def __init__(self, config: Any, *, context: SamplerContext) -> None:
        super().__init__(config, context=context)
        group = context.columns.get("group")
        name = type(self).__name__
        if group is None:
            raise UsageError(
                f"{name}: the stream does not say what its groups are: set groups = {{ stage = '…' }}, the name of an earlier cluster "
                "stage, or groups = { field = '…' }, a category"
            )
        if len(context.rows) == 0:
            raise UsageError("there are no rows to draw from: the stream's table has no train rows; look at its 'where' and 'split'")
        order = np.argsort(group, kind="stable")
        cuts = np.flatnonzero(np.diff(np.asarray(group)[order])) + 1
        self.members = np.split(order, cuts)
        self.least = min(config.least or max(1, context.size // 2), context.size)
        self._epoch = self._batch = 0

    @abstractmethod
    def batches(self, rng: np.random.Generator) -> list[Rows]:
        """The batches of one epoch, as positions; always as many."""

    def __iter__(self) -> Iterator[Rows]:
        """Batches of row numbers, for ever."""
        made: list[Rows] = []
        epoch = -1
        while True:
            if self._epoch != epoch:
                made, epoch = self.batches(np.random.default_rng([self.context.seed, self._epoch])), self._epoch
            found = made[self._batch]
            self._batch += 1
            if self._batch == len(made):
                self._epoch, self._batch = self._epoch + 1, 0
            yield self.context.rows[found]

    def state_dict(self) -> dict[str, int]:
        """The position after the last batch that was yielded."""
        return {"epoch": self._epoch, "batch": self._batch}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Continue from there."""
        self._epoch, self._batch = int(state["epoch"]), int(state["batch"])


class NoTwoOfACluster(GroupSampler):
    """Guided batches (G-SimCLR): no batch holds two rows of one group.

    Each batch takes a row from each of the ``size`` groups that have most left, so that large groups are not left over at the end, and
    rows are dealt anew within groups each epoch (the paper's code fixes their order). When fewer than ``size`` groups have rows left,
    batches run short; those below ``least`` rows are left out of the epoch.
    """

    config: NoTwoConfig

    def __init__(self, config: NoTwoConfig, *, context: SamplerContext) -> None:
        super().__init__(config, context=context)
        sizes = np.array([len(rows) for rows in self.members])
        # Which groups are largest follows from sizes alone, ties apart, so every epoch has the same batch sizes.
        self.sizes = self._plan(sizes, np.random.default_rng(0), [])
        if not self.sizes:
            raise UsageError(
                f"no_two_of_a_cluster: {len(self.members)} groups cannot fill a batch of {self.least} rows of different groups: "
                "make more clusters, or choose a smaller size or least"
            )

    @property
    def batches_per_epoch(self) -> int:
        """Batches of at least ``least`` rows."""
        return len(self.sizes)

    def remarks(self) -> list[str]:
        """How many rows an epoch leaves out."""
        left = len(self.context.rows) - sum(self.sizes)
        if not left:
            return []
        return [
            f"{left:,} of {len(self.context.rows):,} rows, other ones each time, are left out of an epoch: they are of groups too large"
        ]

    def batches(self, rng: np.random.Generator) -> list[Rows]:
        """See ``GroupSampler.batches``."""
        shuffled = [rng.permutation(rows) for rows in self.members]
        chosen: list[Rows] = []
        self._plan(np.array([len(rows) for rows in shuffled]), rng, chosen)
        flat, next_of = np.concatenate(shuffled), np.cumsum([0, *map(len, shuffled[:-1])])
        found = []
        for groups in chosen:
            found.append(flat[next_of[groups]])
            next_of[groups] += 1
        return found

    def _plan(self, left: Rows, rng: np.random.Generator, chosen: list[Rows]) -> list[int]:
        """Sizes of the batches of an epoch; which groups each takes from goes to ``chosen``."""
        left = left.copy()
        sizes: list[int] = []
        while True:
            count = min(self.context.size, int((left > 0).sum()))
            if count < self.least:
                return sizes
            most = np.lexsort((rng.random(len(left)), -left))[:count]
            left[most] -= 1
            chosen.append(most)
            sizes.append(count)


class WithinCluster(GroupSampler):
    """Batches of a single group each (MCL), dealt anew within groups each epoch.

    ``remarks`` tells which rows are never drawn: those of groups below ``least`` rows, where these are skipped.
    """

    config: WithinConfig

    def __init__(self, config: WithinConfig, *, context: SamplerContext) -> None:
        super().__init__(config, context=context)
        small = [rows for rows in self.members if len(rows) < self.least]
        self.members = [rows for rows in self.members if len(rows) >= self.least]
        self.small = len(small)
        united = np.sort(np.concatenate(small)) if small else np.zeros(0, np.int64)
        self.never = len(united)
        if config.small == "unite" and len(united) >= self.least:
            self.members.append(united)
            self.never = 0
        if not self.members:
            raise UsageError(
                f"within_cluster: none of {self.small} groups has {self.least} rows: make fewer clusters, or choose a smaller size or least"
            )
        self._count = sum(self._cut(len(rows)) for rows in self.members)

    @property
    def batches_per_epoch(self) -> int:
        """As many as hold every row that is drawn about once."""
        return self._count

    def remarks(self) -> list[str]:
        """What becomes of small groups."""
        if not self.small:
            return []
        groups = self.small + len(self.members) - (self.never == 0)  # united ones are among the members
        what = f"{self.small} of {groups} groups have fewer than {self.least} rows"
        return [f"{what}: their {self.never:,} rows are never drawn" if self.never else f"{what} and are drawn as one group"]

    def batches(self, rng: np.random.Generator) -> list[Rows]:
        """See ``GroupSampler.batches``."""
        if self.config.turns == "round_robin":
            return self._in_turn(rng)
        size = self.context.size
        found = []
        for rows in self.members:
            shuffled = rng.permutation(rows)
            found += [shuffled[i * size : (i + 1) * size] for i in range(self._cut(len(rows)))]
        return [found[i] for i in rng.permutation(len(found))]

    def _in_turn(self, rng: np.random.Generator) -> list[Rows]:
        """One batch a group, again and again; a group that is through is dealt anew."""
        size, found = self.context.size, []
        order = rng.permutation(len(self.members))
        queues: dict[int, list[Rows]] = {}
        for turn in range(self._count):
            g = int(order[turn % len(order)])
            if not queues.get(g):
                shuffled = rng.permutation(self.members[g])
                queues[g] = [shuffled[i * size : (i + 1) * size] for i in range(self._cut(len(shuffled)))]
            found.append(queues[g].pop(0))
        return found

    def _cut(self, rows: int) -> int:
        """Batches that a group of so many rows gives: whole ones, and the rest where it has ``least`` rows."""
        whole, rest = divmod(rows, self.context.size)
        return whole + (rest >= self.least)
