"""What losses need to see the whole batch of a run of several processes (decision 16); with one process it costs nothing.

A batch is cut into contiguous shards, one a process, in sampler order. A loss over candidates gathers them, with gradient; a loss that
is a mean divides by the count of all shards. Gradients are averaged over processes, which is why ``Shards.mean`` gives each process its
part of the mean times their number: the average is the gradient of the mean over the whole batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

_alone = False


def world() -> int:
    """Processes that train together: 1 where none were started, and inside ``alone``."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() and not _alone else 1


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if world() > 1 else 0


@contextmanager
def alone() -> Iterator[None]:
    """What runs inside does not wait for the other processes, as when one of them validates."""
    global _alone
    before, _alone = _alone, True
    try:
        yield
    finally:
        _alone = before


@dataclass(frozen=True)
class Shards:
    """How the rows of a batch lie on the processes.

    Attributes:
        sizes: rows of each process.
        rank: which one this is.
    """

    sizes: tuple[int, ...]
    rank: int

    @property
    def total(self) -> int:
        """Rows of the whole batch."""
        return sum(self.sizes)

    @property
    def offset(self) -> int:
        """Place of this process's first row in the whole batch."""
        return sum(self.sizes[: self.rank])

    def own(self, device: torch.device) -> Tensor:
        """Places of this process's rows in the whole batch, int64 [n]."""
        return torch.arange(self.offset, self.offset + self.sizes[self.rank], device=device)

    @property
    def whole(self) -> Shards:
        """The whole batch as one shard: for a loss that gathers its inputs first and computes the same on every process, which the mean of
        gradients over processes leaves as it is."""
        return Shards((self.total,), 0)

    def gather(self, x: Tensor) -> Tensor:
        """The rows of all processes in order: [n, …] → [total, …]. The gradient of a row is the sum of what all processes have for it."""
        if len(self.sizes) == 1:
            return x
        found: Tensor = _Gather.apply(x, self)  # type: ignore[no-untyped-call]
        return found

    def mean(self, total: Tensor, count: Tensor) -> Tensor:
        """This process's part of a weighted mean over the whole batch, times the number of processes; zero where nothing counts.

        Args:
            total: sum over the own rows, with gradient.
            count: sum of the own rows' weights, or the number of rows that count.
        """
        if len(self.sizes) > 1:
            count = count.clone()
            dist.all_reduce(count)
            total = total * len(self.sizes)
        return total / torch.where(count > 0, count, 1)


def shards(rows: int, device: torch.device) -> Shards:
    """How a batch of which this process has ``rows`` rows lies on the processes. Every process must ask."""
    if world() == 1:
        return Shards((rows,), 0)
    sizes = torch.zeros(world(), dtype=torch.int64, device=device)
    sizes[rank()] = rows
    dist.all_reduce(sizes)
    return Shards(tuple(sizes.tolist()), rank())


class _Gather(torch.autograd.Function):
    """All shards, padded to one length on the way since collectives want equal ones."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, shards: Shards) -> Tensor:
        ctx.shards = shards
        longest = max(shards.sizes)
        sent = x.new_zeros((longest, *x.shape[1:]))
        sent[: x.shape[0]] = x
        parts = [torch.empty_like(sent) for _ in shards.sizes]
        dist.all_gather(parts, sent)
        return torch.cat([part[:size] for part, size in zip(parts, shards.sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        shards: Shards = ctx.shards
        total = grads[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total.narrow(0, shards.offset, shards.sizes[shards.rank]), None
