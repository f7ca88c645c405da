"""UnifiedEmbedding: a budget of rows for many fields (feature multiplexing, Coleman et al., NeurIPS 2023, arXiv 2305.12102)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from embedkit.errors import UsageError
from embedkit.nn.encoder import EncoderContext
from embedkit.nn.named import Named, attribute
from embedkit.nn.tables import Collisions, TableReport
from embedkit.schema import FieldSpec
from embedkit_unified.addresses import KINDS, Domain, QuotientRemainder, Unified
from embedkit_unified.base import TableEncoder
from embedkit_unified.configs import UnifiedEmbeddingConfig


class UnifiedEmbedding(TableEncoder):
    """Rows of one width that the values of all fields read, as ``kind`` says.

    A value v of field t reads k_t rows, ``g_t(v) = concat_c E[h_c(v)]``. With ``unified`` hash h_c is salted with (domain, c), so fields
    of a domain read the same rows, others independent ones, and the order of fields in a run file changes nothing. A linear map of the
    field's own then leads to the model's dim: collisions between fields do little harm only if each field reads the table through
    weights of its own (section 4.2 there).
    """

    config: UnifiedEmbeddingConfig
    deal: Tensor

    def __init__(self, config: UnifiedEmbeddingConfig, *, context: EncoderContext) -> None:
        super().__init__(config, context=context)
        self._check_names()
        domains = self._domains()
        self._place = {domain.name: i for i, domain in enumerate(domains)}
        self.addresses = KINDS[config.kind](config, domains)
        self._check_lookups()
        # Only a deal that the data decide needs to be kept: bundles of the other kinds hold the same tensors as ever.
        self.register_buffer("deal", self.addresses.deal(), persistent=self.addresses.dealt)
        self._make_tables(self._width())
        self.projections: Named[nn.Linear] = Named()
        for spec in context.fields:
            joined = self.width * config.lookups_of(spec.name)
            if config.project:
                self.projections[spec.name] = nn.Linear(joined, context.dim, bias=False)
            elif joined != context.dim:
                raise UsageError(
                    f"unified_embedding: field '{spec.name}' has {config.lookups_of(spec.name)} lookups of width {self.width}, "
                    f"but the model's dim is {context.dim}: make them equal or set project = true"
                )
            self.register_buffer(_rows_of(spec), torch.empty(0), persistent=False)
        self._remember_rows()
        self.register_load_state_dict_post_hook(_deal_again)

    def tables(self) -> Iterable[nn.Parameter]:
        """All tables."""
        return [self._table(i) for i in range(self.config.tables)]

    def growing_tables(self) -> Iterable[nn.Parameter]:
        """None: the budget stays, and more values share it."""
        return ()

    @property
    def table_bytes(self) -> int:
        """Bytes of the tables (an optimiser's state comes on top)."""
        return sum(table.numel() * table.element_size() for table in self.tables())

    def rows(self, spec: FieldSpec, codes: Tensor) -> Tensor:
        """The rows of codes, numbered through all tables: int64 [...] → int64 [..., reads]."""
        return self.addresses.rows(self._place[spec.domain], codes, self.config.lookups_of(spec.name), self.deal)

    def collisions(self, spec: FieldSpec) -> Collisions:
        """Count the collisions of a field's vocabulary."""
        rows = self._known_rows(spec).long()
        size = max(1, rows.shape[0])

        def shared(keys: Tensor) -> float:
            _, group, counts = torch.unique(keys, dim=0, return_inverse=True, return_counts=True)
            return int((counts.index_select(0, group) > 1).sum()) / size

        foreign = torch.zeros(self.config.rows, dtype=torch.bool, device=rows.device)
        for other in self.context.fields:
            if other.domain != spec.domain:
                foreign[self._known_rows(other).long().flatten()] = True
        between = int(foreign.index_select(0, rows[:, 0]).sum()) / size
        return Collisions(rows.shape[0], shared(rows[:, :1]), shared(rows), between)

    def table_report(self) -> TableReport:
        """See ``Encoder.table_report``."""
        fields = {spec.name: self.collisions(spec) for spec in self.context.fields}
        return TableReport(self.config.kind, self.config.tables, self.config.rows, self.width, self.table_bytes, fields)

    def lookup(self, spec: FieldSpec, codes: Tensor) -> Tensor:
        """See ``TableEncoder.lookup``."""
        return self._project(spec, self._joined(spec, codes.flatten()).view(*codes.shape, -1))

    def mean(self, spec: FieldSpec, codes: Tensor, offsets: Tensor) -> Tensor:
        """See ``TableEncoder.mean``. The projection is linear, so it comes after the mean, on B rows in place of T."""
        if self._combines and self.config.combine == "multiply":  # no sum over values is a sum of products
            joined = self._joined(spec, codes)
            each = torch.arange(joined.shape[0], device=codes.device)
            return self._project(spec, F.embedding_bag(each, joined, offsets, mode="mean", include_last_offset=True))
        rows = self._known_rows(spec).index_select(0, codes).long()
        bags = [
            F.embedding_bag(own, table, offsets, mode="mean", include_last_offset=True, sparse=self.context.sparse)
            for own, table in self._reads(spec, rows)
        ]
        return self._project(spec, self._combined(torch.stack(bags, 1)).flatten(1))

    def _joined(self, spec: FieldSpec, codes: Tensor) -> Tensor:
        """Codes [N] → their lookups end to end, [N, lookups * width]."""
        rows = self._known_rows(spec).index_select(0, codes)
        if self.config.tables == 1:
            x = F.embedding(rows, self._table(0), sparse=self.context.sparse)
        else:
            x = torch.stack([F.embedding(own, table, sparse=self.context.sparse) for own, table in self._reads(spec, rows)], 1)
        return self._combined(x).flatten(1)

    def _combined(self, x: Tensor) -> Tensor:
        """[N, reads, width] → [N, lookups, width]."""
        if not self._combines:
            return x
        remainder, quotient = x.chunk(2, dim=1)
        return remainder * quotient if self.config.combine == "multiply" else remainder + quotient

    @property
    def _combines(self) -> bool:
        return isinstance(self.addresses, QuotientRemainder) and self.config.combine != "concat"

    def _reads(self, spec: FieldSpec, rows: Tensor) -> list[tuple[Tensor, nn.Parameter]]:
        """Rows [N, reads] → for each read the rows of its table, [N], and the table."""
        columns = list(rows.t().contiguous())
        if not isinstance(self.addresses, Unified) or self.config.tables == 1:
            return [(column, self._table(0)) for column in columns]
        numbers = [self.addresses.table_of(spec.domain, c) for c in range(len(columns))]
        return [(column - self.addresses.table(i)[0], self._table(i)) for column, i in zip(columns, numbers, strict=True)]

    def _project(self, spec: FieldSpec, x: Tensor) -> Tensor:
        return self.projections[spec.name](x) if self.config.project else x

    # -- making

    def _domains(self) -> list[Domain]:
        found: dict[str, Domain] = {}
        for spec in self.context.fields:
            stats, lookups = self.context.stats[spec.name], self.config.lookups_of(spec.name)
            if stats.size is None:
                raise UsageError(f"unified_embedding: field '{spec.name}' of type {spec.type} has no vocabulary")
            before = found.get(spec.domain)
            most = lookups if before is None else max(lookups, before.lookups)
            counts = stats.counts if before is None or before.counts is None else before.counts
            found[spec.domain] = Domain(spec.domain, stats.size, most, counts)
        return [found[name] for name in sorted(found)]

    def _make_tables(self, width: int) -> None:
        """The tables, drawn uniform; factors start about one, so that a product starts out as large as a row of the other kinds."""
        self.width = width
        weight = torch.empty(self.config.rows, width).uniform_(-self.config.init_range, self.config.init_range)
        if isinstance(self.addresses, QuotientRemainder) and self.config.combine == "multiply":
            for domain in range(len(self.addresses.domains)):
                weight[self.addresses.quotient_rows(domain, self.deal)] += 1.0
        if self.config.tables == 1:
            self.weight = nn.Parameter(weight)
            return
        assert isinstance(self.addresses, Unified)
        for i in range(self.config.tables):
            start, size = self.addresses.table(i)
            self.register_parameter(f"weight_{i}", nn.Parameter(weight[start : start + size].clone()))

    def _table(self, number: int) -> nn.Parameter:
        return self.weight if self.config.tables == 1 else cast(nn.Parameter, getattr(self, f"weight_{number}"))

    def _remember_rows(self) -> None:
        """Hash the vocabularies once: a batch then costs one gather, and the buffers (int32) are rebuilt, not saved, with the model."""
        deal, self.deal = self.deal, self.deal.cpu()
        for spec in self.context.fields:
            size = self.addresses.domains[self._place[spec.domain]].size
            setattr(self, _rows_of(spec), self.rows(spec, torch.arange(size)).to(torch.int32).to(deal.device))
        self.deal = deal

    def _known_rows(self, spec: FieldSpec) -> Tensor:
        return cast(Tensor, getattr(self, _rows_of(spec)))

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

    def _check_lookups(self) -> None:
        config = self.config
        most = max(config.lookups_of(spec.name) for spec in self.context.fields)
        if config.rows < max(most if config.kind == "hashed" else 1, config.tables):
            raise UsageError(f"unified_embedding: {config.rows} rows are too few for {config.tables} tables and {most} lookups a value")
        if config.kind == "quotient_remainder" and config.combine == "concat":
            for spec in self.context.fields:
                if config.lookups_of(spec.name) % 2:
                    raise UsageError(
                        f"unified_embedding: field '{spec.name}' has {config.lookups_of(spec.name)} lookups, and concat reads half of them "
                        "from remainders and half from quotients: give it an even number"
                    )


def _rows_of(spec: FieldSpec) -> str:
    return f"rows_{attribute(spec.name)}"


def _deal_again(module: UnifiedEmbedding, _: object) -> None:
    """After loading: the deal may be another one than that of the statistics, so the rows are found anew."""
    module._remember_rows()
