"""Addresses: which rows of a budget a value reads. One class a kind; rows are numbered through all tables.

Hashes are those of ``embedkit.data.hashing``, salted with (domain, lookup), so nothing depends on the order of fields in a run file.
Where rows are dealt out by what the data hold (vocabulary sizes, counts), the deal is a tensor that the encoder keeps with its weights:
a vocabulary that grows later must not move the rows of values that are trained already.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from embedkit.data.hashing import mix, salt
from embedkit.errors import UsageError
from embedkit_unified.configs import UnifiedEmbeddingConfig


@dataclass(frozen=True, eq=False)
class Domain:
    """What the rows are dealt by.

    Attributes:
        name: of the domain.
        size: codes, the unknown code 0 included.
        lookups: most lookups of its fields.
        counts: int64 [size], train occurrences; None where nobody counted.
    """

    name: str
    size: int
    lookups: int
    counts: Tensor | None = None


class Addresses(ABC):
    """Base. ``domains`` are sorted by name."""

    dealt: ClassVar[bool] = True
    """Whether the data decide the deal, which is then kept with the weights."""

    def __init__(self, config: UnifiedEmbeddingConfig, domains: Sequence[Domain]) -> None:
        self.config, self.domains = config, list(domains)

    def deal(self) -> Tensor:
        """What each domain gets, int64 [domains, n]: the beginning of its rows, and more.

        Raises:
            UsageError: there are too few rows.
        """
        return torch.zeros(len(self.domains), 0, dtype=torch.int64)

    @abstractmethod
    def rows(self, domain: int, codes: Tensor, lookups: int, deal: Tensor) -> Tensor:
        """Codes int64 [...] of a domain (by its place) → row numbers [..., reads]."""

    def reads(self, lookups: int) -> int:
        """Rows that a value of so many lookups reads."""
        return lookups


class Unified(Addresses):
    """Independent hashes into all rows; with several tables, lookups go round them, starting where the domain's hash says."""

    dealt = False

    def rows(self, domain: int, codes: Tensor, lookups: int, deal: Tensor) -> Tensor:
        """See ``Addresses.rows``."""
        name = self.domains[domain].name
        parts = []
        for c in range(lookups):
            start, size = self.table(self.table_of(name, c))
            parts.append(mix(codes, salt(name, c), size) + start)
        return torch.stack(parts, -1)

    def table_of(self, domain: str, lookup: int) -> int:
        """Which table a lookup reads."""
        return (salt(domain, -1) + lookup) % self.config.tables

    def table(self, number: int) -> tuple[int, int]:
        """First row and number of rows of a table."""
        ends = [self.config.rows * i // self.config.tables for i in (number, number + 1)]
        return ends[0], ends[1] - ends[0]


class Hashed(Addresses):
    """One hash of a value picks neighbouring rows: the hashing trick (Weinberger et al. 2009) with one wide row a value."""

    dealt = False

    def rows(self, domain: int, codes: Tensor, lookups: int, deal: Tensor) -> Tensor:
        """See ``Addresses.rows``."""
        one = self.domains[domain]
        wide = mix(codes, salt(one.name, 0), self.config.rows // one.lookups)
        return _side_by_side(wide, one.lookups, lookups)


class PerField(Addresses):
    """Each domain hashes into a share of its own: what Coleman et al. 2023 compare with at equal bytes ("non-multiplexed")."""

    def deal(self) -> Tensor:
        """(first row, rows) of each domain, in proportion to the sizes of the vocabularies."""
        return shares(self.config.rows, self.domains, [1] * len(self.domains))

    def rows(self, domain: int, codes: Tensor, lookups: int, deal: Tensor) -> Tensor:
        """See ``Addresses.rows``."""
        start, size = deal[domain].tolist()
        name = self.domains[domain].name
        return torch.stack([mix(codes, salt(name, c), size) + start for c in range(lookups)], -1)


class QuotientRemainder(Addresses):
    """A code's remainder and quotient by m pick a row each, which are combined (Shi et al., KDD 2020, arXiv 1909.02107, sections 3 and 4;
    from memory): no two codes have both in common as long as the quotients' rows last, after which quotients go round.

    m is the greatest number that leaves rows for all quotients; half of the share where none does. Where a value has several lookups,
    its rows are that wide.
    """

    def deal(self) -> Tensor:
        """(first row, remainder rows, quotient rows) of each domain, counted in wide rows."""
        strides = [self._stride(domain.lookups) for domain in self.domains]
        found = shares(self.config.rows, self.domains, [2 * stride for stride in strides])
        parts = []
        for domain, stride, (start, size) in zip(self.domains, strides, found.tolist(), strict=True):
            parts.append((start, *_remainder_and_quotient(domain.size, size // stride)))
        return torch.tensor(parts, dtype=torch.int64).reshape(-1, 3)

    def rows(self, domain: int, codes: Tensor, lookups: int, deal: Tensor) -> Tensor:
        """See ``Addresses.rows``: the remainder's rows, then the quotient's."""
        start, remainders, quotients = deal[domain].tolist()
        stride, kept = self._stride(self.domains[domain].lookups), self._stride(lookups)
        remainder = _side_by_side(codes % remainders, stride, kept)
        quotient = _side_by_side(codes // remainders % quotients + remainders, stride, kept)
        return torch.cat([remainder, quotient], -1) + start

    def reads(self, lookups: int) -> int:
        """Twice the lookups, unless they are read half from each."""
        return 2 * self._stride(lookups)

    def quotient_rows(self, domain: int, deal: Tensor) -> slice:
        """Where a domain's quotient rows stand."""
        start, remainders, quotients = deal[domain].tolist()
        stride = self._stride(self.domains[domain].lookups)
        return slice(start + remainders * stride, start + (remainders + quotients) * stride)

    def _stride(self, lookups: int) -> int:
        return lookups // 2 if self.config.combine == "concat" else lookups


class Frequency(Addresses):
    """The most frequent values own rows, the others hash into the rest as ``unified`` does."""

    def deal(self) -> Tensor:
        """(first row, values that own rows) of each domain. Codes descend by count, so these are the codes 1, 2, … of a domain."""
        strides = torch.tensor([domain.lookups for domain in self.domains])
        owner = torch.cat([torch.full((domain.size - 1,), i) for i, domain in enumerate(self.domains)])
        code = torch.cat([torch.arange(1, domain.size) for domain in self.domains])
        # A vocabulary that has grown need not descend any more; its head is a beginning of the codes all the same.
        count = torch.cat([_counts(domain)[1:].cummin(0).values for domain in self.domains])
        chosen = owner[torch.from_numpy(np.lexsort((owner, code, -count)))]
        cost = strides[chosen].cumsum(0)
        last = int(strides.max())
        if self.config.head is None:
            chosen = chosen[cost <= self.config.rows // 2]
        else:
            chosen = chosen[: self.config.head]
            needed = int(cost[len(chosen) - 1]) if len(chosen) else 0
            if needed + last > self.config.rows:
                raise UsageError(
                    f"unified_embedding: the {len(chosen)} values of the head take {needed} of {self.config.rows} rows and leave too few "
                    "for the others: set a smaller head or more rows"
                )
        heads = torch.bincount(chosen, minlength=len(self.domains))
        sizes = heads * strides
        return torch.stack([sizes.cumsum(0) - sizes, heads], 1)

    def rows(self, domain: int, codes: Tensor, lookups: int, deal: Tensor) -> Tensor:
        """See ``Addresses.rows``."""
        one, (start, head) = self.domains[domain], deal[domain].tolist()
        tail = sum(d.lookups * own for d, own in zip(self.domains, deal[:, 1].tolist(), strict=True))
        own = _side_by_side(codes - 1, one.lookups, lookups) + start
        hashed = torch.stack([mix(codes, salt(one.name, c), self.config.rows - tail) + tail for c in range(lookups)], -1)
        return torch.where(((codes >= 1) & (codes <= head)).unsqueeze(-1), own, hashed)


KINDS: dict[str, type[Addresses]] = {
    "unified": Unified,
    "hashed": Hashed,
    "per_field": PerField,
    "quotient_remainder": QuotientRemainder,
    "frequency": Frequency,
}


def shares(rows: int, domains: Sequence[Domain], least: Sequence[int]) -> Tensor:
    """Deal rows in proportion to the domains' sizes, at least ``least`` each: (first row, rows), int64 [domains, 2].

    The fractions that are left over go to the largest remainders.

    Raises:
        UsageError: there are too few.
    """
    if rows < sum(least):
        raise UsageError(f"unified_embedding: {rows} rows cannot be shared by {len(domains)} domains: at least {sum(least)} are needed")
    total = sum(domain.size for domain in domains)
    free = rows - sum(least)
    exact = [free * domain.size / total for domain in domains]
    found = [int(part) for part in exact]
    late = sorted(range(len(domains)), key=lambda i: (found[i] - exact[i], i))
    for i in late[: free - sum(found)]:
        found[i] += 1
    sizes = torch.tensor([a + b for a, b in zip(found, least, strict=True)], dtype=torch.int64)
    return torch.stack([sizes.cumsum(0) - sizes, sizes], 1)


def _remainder_and_quotient(size: int, rows: int) -> tuple[int, int]:
    """How many of the rows are for remainders, how many for quotients."""
    for quotients in range(1, rows):
        remainders = rows - quotients
        if -(-size // remainders) <= quotients:
            return remainders, quotients
        if quotients >= remainders:
            break
    return rows - rows // 2, rows // 2


def _side_by_side(wide: Tensor, stride: int, kept: int) -> Tensor:
    """Wide rows [...] → the first ``kept`` of the ``stride`` rows that each is made of, [..., kept]."""
    return wide.unsqueeze(-1) * stride + torch.arange(kept, device=wide.device)


def _counts(domain: Domain) -> Tensor:
    return torch.zeros(domain.size, dtype=torch.int64) if domain.counts is None else domain.counts.long()
