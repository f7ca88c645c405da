"""Partition functions: sums of the exponentials of queries' logits over items, and their gradients, without ever holding all logits."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

_BLOCK = {"cpu": 2**16, "cuda": 2**18}
"""Items scored at a time. A table with more is gone through twice: once for the sums, once for the gradients."""
_BUDGET = {"cpu": 12 * 2**20, "cuda": 512 * 2**20}
"""Bytes of logits that are held at a time: on a CPU about what stays in its cache, which halves the time; a GPU waits for every piece."""
_ALIGNED = {"cpu": 1, "cuda": 8}
"""Numbers that the rows of matrices are a multiple of: a GPU's matrix units read 16 bytes at a time, and rows that begin elsewhere take
several times as long."""
_SAFE = 40.0
"""Logits of at most this size need no maximum taken off: the exponential of twice as much is still a float32, and not zero."""


class Items:
    """Items as the products want them: with a column of ones, whose product with exponentials is their sum.

    Args:
        items: [M, E], without gradient.
        scale: what every product is multiplied by.
        bias: float32 [M], added to the logits of each item; None for none.
        bounded: queries and items have at most unit length, so that no product exceeds ``scale``.
        precision: of the logits.
    """

    def __init__(self, items: Tensor, scale: float, bias: Tensor | None, bounded: bool, precision: torch.dtype) -> None:
        count, self.width = items.shape
        aligned = _of(_ALIGNED, items.device)
        self.rows = F.pad(items.to(precision), (0, 0, 0, -count % aligned))
        self.scale = scale
        ones = self.rows.new_zeros(self.rows.shape[0], 1 + -(self.width + 1) % aligned)
        ones[:count, 0] = 1.0
        self.with_ones = torch.cat([self.rows, ones], 1)
        self.blocks = list(pieces(self.rows.shape[0], _of(_BLOCK, items.device)))
        self.small = bounded and scale <= _SAFE
        if bias is None and not self.small and self.rows.shape[0] > count:
            bias = items.new_zeros(count)  # rows that only fill up must not be the largest logit
        # Taken off before the logits are rounded, and given back to their log sums: a correction that all items share is then exact.
        self.shift = 0.0 if bias is None or bias.numel() == 0 else bias.amax().clamp(min=torch.finfo(bias.dtype).min)
        self.bias = None if bias is None else F.pad((bias - self.shift).to(precision), (0, -count % aligned), value=-torch.inf)
        widest = max(1, min(self.rows.shape[0], _of(_BLOCK, items.device)))
        self.queries_at_once = max(16, _of(_BUDGET, items.device) // (widest * self.rows.element_size()))

    def logits(self, queries: Tensor, block: slice) -> Tensor:
        """Those of one block, of queries that are scaled: [R, C]."""
        items = self.rows[block].T
        return torch.mm(queries, items) if self.bias is None else torch.addmm(self.bias[block], queries, items)


class LeftOut:
    """Items that a query does not see: those of its own number.

    Args:
        own: int64 [N], the number of each query; one that no item has for a query that sees all.
        numbers: int64 [M], of the items.
    """

    def __init__(self, own: Tensor, numbers: Tensor) -> None:
        ascending, self._item = torch.sort(numbers)
        self._first = torch.searchsorted(ascending, own)
        self._count = torch.searchsorted(ascending, own, right=True) - self._first

    def pairs(self, some: slice) -> tuple[Tensor, Tensor]:
        """Of a slice of the queries: places of queries within it, and items, int64 [P] each."""
        count = self._count[some]
        query = torch.repeat_interleave(torch.arange(len(count), device=count.device), count)
        before = torch.cumsum(count, 0) - count
        place = (self._first[some] - before).index_select(0, query) + torch.arange(len(query), device=count.device)
        return query, self._item.index_select(0, place)


class Sums:
    """Some queries against all items: the sums of their exponentials, and the gradients that follow from them.

    Args:
        items: what they are scored against.
        queries: [R, E], without gradient and not scaled.
        left_out: pairs of a query and an item that it does not see.

    Attributes:
        log_sums: log sum_j exp(s_ij), [R]; minus infinity for a query that sees no item.
    """

    def __init__(self, items: Items, queries: Tensor, left_out: tuple[Tensor, Tensor] | None = None) -> None:
        self._all, self._left_out = items, left_out
        self._queries = (queries * items.scale).to(items.rows.dtype)
        self._top = self._queries.new_zeros(queries.shape[0], 1) if items.small else self._maximum()
        self._held: Tensor | None = None
        total = queries.new_zeros(queries.shape[0], items.with_ones.shape[1], dtype=torch.float32)
        for block in items.blocks:
            exponentials = self._exponentials(block)
            total += torch.mm(exponentials, items.with_ones[block]).float()
            self._held = exponentials if len(items.blocks) == 1 else None
        self._weighted, sums = total[:, : items.width], total[:, items.width]
        self.log_sums = sums.log() + self._top.squeeze(1).float() + items.shift
        self._sums = sums.masked_fill(sums == 0, 1.0)  # a query that sees no item has no mean

    def mean_items(self, factor: Tensor) -> Tensor:
        """The mean item under the softmax of each query, times its factor, [R, E]."""
        return self._weighted * (factor / self._sums).unsqueeze(1)

    def add_to_items(self, grad: Tensor, queries: Tensor) -> None:
        """Add to each item, [M, E], the queries [R, E] weighted by its softmax."""
        share = (queries / self._sums.unsqueeze(1)).to(self._queries.dtype)
        for block in self._all.blocks:
            exponentials = self._exponentials(block) if self._held is None else self._held
            found = grad[block]
            found += torch.mm(exponentials.T, share)[: found.shape[0]]

    def _maximum(self) -> Tensor:
        if not self._all.blocks:
            return self._queries.new_zeros(self._queries.shape[0], 1)
        return torch.stack([self._all.logits(self._queries, block).amax(1) for block in self._all.blocks]).amax(0).unsqueeze(1)

    def _exponentials(self, block: slice) -> Tensor:
        logits = self._all.logits(self._queries, block)
        found = (logits if self._all.small else logits.sub_(self._top)).exp_()
        if self._left_out is not None:
            query, item = self._left_out
            if len(self._all.blocks) > 1:
                here = (item >= block.start) & (item < block.stop)
                query, item = query[here], item[here] - block.start
            found[query, item] = 0.0
        return found


def pieces(count: int, size: int) -> Iterator[slice]:
    """Slices of at most ``size`` that cover ``count``."""
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


def _of(limits: dict[str, int], device: torch.device) -> int:
    return limits.get(device.type, limits["cuda"])
