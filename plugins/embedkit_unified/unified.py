"""UnifiedEmbedding: one hashed table for many fields (feature multiplexing, Coleman et al., NeurIPS 2023, arXiv 2305.12102)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from embedkit.data.hashing import mix, salt
from embedkit.errors import UsageError
from embedkit.nn.encoder import EncoderContext
from embedkit.nn.named import Named, attribute
from embedkit.schema import FieldSpec
from embedkit_unified.base import TableEncoder
from embedkit_unified.configs import UnifiedEmbeddingConfig


@dataclass(frozen=True)
class Collisions:
    """How often the values of a field meet in the table.

    Attributes:
        size: values, the unknown one included.
        first: share of them whose first row is another value's first row too.
        full: share of them all of whose rows are, in order, another value's: nothing tells these apart.
    """

    size: int
    first: float
    full: float


class UnifiedEmbedding(TableEncoder):
    """One table E [rows, width] for all fields.

    A value v of field t reads k_t rows, ``g_t(v) = concat_c E[h_c(v)]``, where hash h_c is salted with (domain, c), so fields of a
    domain read the same rows, others independent ones, and the order of fields in a run file changes nothing. A linear map of the
    field's own then leads to the model's dim: collisions between fields do little harm only if each field reads the table through
    weights of its own (section 4.2 there).
    """

    config: UnifiedEmbeddingConfig

    def __init__(self, config: UnifiedEmbeddingConfig, *, context: EncoderContext) -> None:
        super().__init__(config, context=context)
        self._check_names()
        width = self._width()
        self.weight = nn.Parameter(torch.empty(config.rows, width).uniform_(-config.init_range, config.init_range))
        self.projections: Named[nn.Linear] = Named()
        for spec in context.fields:
            joined = width * config.lookups_of(spec.name)
            if config.project:
                self.projections[spec.name] = nn.Linear(joined, context.dim, bias=False)
            elif joined != context.dim:
                raise UsageError(
                    f"unified_embedding: field '{spec.name}' has {config.lookups_of(spec.name)} lookups of width {width}, "
                    f"but the model's dim is {context.dim}: make them equal or set project = true"
                )
            self._remember_rows(spec)

    def tables(self) -> Iterable[nn.Parameter]:
        """The one table."""
        return [self.weight]

    @property
    def table_bytes(self) -> int:
        """Bytes of the table (an optimiser's state comes on top)."""
        return self.weight.numel() * self.weight.element_size()

    def rows(self, spec: FieldSpec, codes: Tensor) -> Tensor:
        """The table rows of codes: int64 [...] → int64 [..., lookups]."""
        lookups = range(self.config.lookups_of(spec.name))
        return torch.stack([mix(codes, salt(spec.domain, c), self.config.rows) for c in lookups], -1)

    def collisions(self, spec: FieldSpec) -> Collisions:
        """Count the collisions of a field's vocabulary."""
        rows = self._known_rows(spec).long()
        size = max(1, rows.shape[0])

        def shared(keys: Tensor) -> float:
            _, group, counts = torch.unique(keys, dim=0, return_inverse=True, return_counts=True)
            return int((counts.index_select(0, group) > 1).sum()) / size

        return Collisions(rows.shape[0], shared(rows[:, :1]), shared(rows))

    def lookup(self, spec: FieldSpec, codes: Tensor) -> Tensor:
        """See ``TableEncoder.lookup``."""
        rows = self._known_rows(spec).index_select(0, codes.flatten())
        joined = F.embedding(rows, self.weight, sparse=self.context.sparse).flatten(1)
        return self._project(spec, joined.view(*codes.shape, -1))

    def mean(self, spec: FieldSpec, codes: Tensor, offsets: Tensor) -> Tensor:
        """See ``TableEncoder.mean``. The projection is linear, so it comes after the mean, on B rows in place of T."""
        rows = self._known_rows(spec).index_select(0, codes).long()
        bags = [
            F.embedding_bag(c, self.weight, offsets, mode="mean", include_last_offset=True, sparse=self.context.sparse)
            for c in rows.t().contiguous()
        ]
        return self._project(spec, torch.cat(bags, -1))

    def _project(self, spec: FieldSpec, x: Tensor) -> Tensor:
        return self.projections[spec.name](x) if self.config.project else x

    def _remember_rows(self, spec: FieldSpec) -> None:
        """Hash the vocabulary once: a batch then costs one gather, and the buffer (int32) is rebuilt, not saved, with the model."""
        size = self.context.stats[spec.name].size
        if size is None:
            raise UsageError(f"unified_embedding: field '{spec.name}' of type {spec.type} has no vocabulary")
        rows = self.rows(spec, torch.arange(size)).to(torch.int32)
        self.register_buffer(f"rows_{attribute(spec.name)}", rows, persistent=False)

    def _known_rows(self, spec: FieldSpec) -> Tensor:
        return cast(Tensor, getattr(self, f"rows_{attribute(spec.name)}"))

    def _width(self) -> int:
        if self.config.width is not None:
            return self.config.width
        most = max(self.config.lookups_of(spec.name) for spec in self.context.fields)
        if self.context.dim % most:
            raise UsageError(f"unified_embedding: the model's dim {self.context.dim} does not divide by {most} lookups: set width")
        return self.context.dim // most

    def _check_names(self) -> None:
        lookups = self.config.lookups
        names = [spec.name for spec in self.context.fields]
        unknown = [] if isinstance(lookups, int) else [name for name in lookups if name not in names]
        if unknown:
            raise UsageError(f"unified_embedding: lookups names field '{unknown[0]}', but it serves {', '.join(names)}")
