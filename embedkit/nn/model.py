"""Model: encoders, trunks and heads of every tower, and one forward from a View to Outputs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from embedkit.data.batch import Batch
from embedkit.data.columns import Column, places
from embedkit.errors import DataError, PluginError, UsageError
from embedkit.nn.encoder import Encoder, EncoderContext
from embedkit.nn.head import Head, HeadContext
from embedkit.nn.named import Named
from embedkit.nn.trunk import Trunk, TrunkContext
from embedkit.nn.unit import unit
from embedkit.nn.values import Outputs, Tokens
from embedkit.schema import FieldSpec
from embedkit.views import View

if TYPE_CHECKING:
    from embedkit.config.plan import EncoderPart, ModelSpec
    from embedkit.data.codec import FieldStats


class Model(nn.Module):
    """All towers. Encoders are shared by the towers, so that a domain has one set of table rows; heads are a tower's own, and so are trunks
    but for towers that use another's.

    Weights are drawn from torch's global generator in a fixed order: encoders, then each tower's trunk and head.

    Args:
        spec: components and their options.
        stats: field → statistics of its fitted codec, for every field of a tower.
        sparse: give embedding tables sparse gradients, for an optimiser that wants them.

    Attributes:
        catalogue: tower → a view of all rows of its table, the table's keys among its columns. Set while there are tables; a model from a
            bundle has none.
        held_rows: tower → the vectors [M, D] of all its rows that a step has made already, for encoders that read them.

    Raises:
        UsageError: an encoder does not accept a field's type, or a tower's field has no encoder.
    """

    def __init__(self, spec: ModelSpec, stats: Mapping[str, FieldStats], *, sparse: bool = False) -> None:
        super().__init__()
        self.spec = spec
        self.sparse = sparse
        self.catalogue: Callable[[str], View] | None = None
        self.held_rows: dict[str, Tensor] = {}
        self._rows: tuple[Tensor, Tensor] | None = None
        schema = spec.schema
        self.encoders: Named[Encoder] = Named()
        self._encoder_of: dict[str, str] = {}
        for part in spec.encoders:
            name = self._free_name(part.entry.name)
            self.encoders[name] = self._encoder(part, stats, sparse)
            self._encoder_of |= dict.fromkeys(part.fields, name)
        self.trunks: Named[Trunk] = Named()
        self.heads: Named[Head] = Named()
        for tower in schema.towers:
            fields = schema.tower_fields(tower)
            lengths = {field.name: self._encoder_for(field, tower).max_tokens(field) for field in fields}
            if tower not in spec.shared_trunks:
                self.trunks[tower] = cast(Trunk, spec.trunks[tower].create(TrunkContext(tower, fields, spec.dim, lengths)))
                self.heads[tower] = self._head(tower)
        for tower in spec.shared_trunks:  # now that every trunk is there
            self.heads[tower] = self._head(tower)
        self.read_towers = self._read_towers()

    @property
    def dims(self) -> dict[str, int]:
        """Tower → embedding width E."""
        return {name: head.prefixes[-1] for name, head in self.heads.items()}

    @property
    def prefixes(self) -> dict[str, tuple[int, ...]]:
        """Tower → nested widths, ascending, the last one E."""
        return {name: head.prefixes for name, head in self.heads.items()}

    def trunk(self, tower: str) -> Trunk:
        """The tower's trunk: its own, or the one that it shares."""
        return self.trunks[self.spec.shared_trunks.get(tower, tower)]

    def table_parameters(self) -> list[nn.Parameter]:
        """The parameters that are embedding tables, each once."""
        return list(dict.fromkeys(table for encoder in self.encoders.values() for table in encoder.tables()))

    def all_rows(self, tower: str) -> View:
        """All rows of a tower's table.

        Raises:
            PluginError: this model was given no tables.
        """
        if self.catalogue is None:
            raise PluginError(f"tower '{tower}' was asked for all rows of its table, and this model was given no tables")
        return self.catalogue(tower)

    def some_rows(self, tower: str, rows: Tensor) -> View:
        """Some rows (int64 [R]) of a tower's table."""
        columns = self.all_rows(tower).batch.columns
        return View(Batch({name: columns[name].take(rows) for name in self.spec.schema.towers[tower].fields}))

    @torch.no_grad()
    def embed_all(self, tower: str, chunk: int = 8192) -> Tensor:
        """Embeddings of all rows of a tower's table, float32 [M, E], without gradient or dropout."""
        return torch.cat([outputs.embedding for outputs in self._chunks(tower, chunk)])

    def _chunks(self, tower: str, size: int) -> Iterator[Outputs]:
        """A tower's outputs for all rows of its table in eval mode, some rows at a time."""
        count = len(next(iter(self.all_rows(tower).batch.columns.values())))
        training = self.training
        self.eval()
        try:
            for start in range(0, count, size):
                rows = torch.arange(start, min(start + size, count), device=self._device())
                yield cast(Outputs, self(self.some_rows(tower, rows), tower))
        finally:
            self.train(training)

    def read(self, tower: str, domain: str, codes: Tensor) -> tuple[Tensor, Tensor]:
        """What a tower's trunk gives for the rows of its table whose key has these codes: each row computed once, with gradient.

        Args:
            tower: name.
            domain: of the codes and of the table's key.
            codes: int64 [N].

        Returns:
            [N, D], and bool [N], False where there is no such row (the vector is then some other row's).
        """
        columns = self.all_rows(tower).batch.columns
        key = next(
            s.name for s in self.spec.schema.of_table(self.spec.schema.towers[tower].table) if s.role == "key" and s.domain == domain
        )
        rows = self._row_of_code(columns[key].values, codes)
        held = self.held_rows.get(tower)
        if held is not None:
            return F.embedding(rows.clamp(min=0), held), rows >= 0
        distinct, place = torch.unique(rows.clamp(min=0), return_inverse=True)
        return F.embedding(place, cast(Outputs, self(self.some_rows(tower, distinct), tower)).pooled), rows >= 0

    def _row_of_code(self, keys: Tensor, codes: Tensor) -> Tensor:
        """The row whose key has each code, -1 for none and for the unknown code 0, which any number of rows may have."""
        if self._rows is None or self._rows[0] is not keys:
            rows = torch.full((int(keys.max()) + 1,), -1, dtype=torch.int64, device=keys.device)
            known = (keys > 0).nonzero().squeeze(1)
            self._rows = (keys, rows.index_copy_(0, keys.index_select(0, known), known))
        rows = self._rows[1]
        found = rows.index_select(0, codes.clamp(max=rows.shape[0] - 1).flatten()).view_as(codes)
        return found.masked_fill(codes >= rows.shape[0], -1)

    @torch.no_grad()
    def refresh(self, chunk: int = 8192) -> None:
        """Let encoders that read a tower keep its vectors as they are now: before a validation, before a bundle is written."""
        for tower in self.read_towers:
            rows = torch.cat([outputs.pooled.float() for outputs in self._chunks(tower, chunk)])
            columns, table = self.all_rows(tower).batch.columns, self.spec.schema.towers[tower].table
            keys = {s.domain: columns[s.name] for s in self.spec.schema.of_table(table) if s.role == "key"}
            for encoder in self.encoders.values():
                if encoder.reads == tower:
                    encoder.refresh(keys, rows)

    def derived(self) -> frozenset[str]:
        """Keys of the state dict that ``refresh`` makes."""
        return frozenset(f"encoders.{self.encoders.key(name)}.{buffer}" for name, e in self.encoders.items() for buffer in e.derived())

    def forward(self, view: View, tower: str, *, layers: tuple[int, ...] = ()) -> Outputs:
        """Embed the rows of a view with one tower.

        Where ``view.batch.window`` is a field of the tower, there is one embedding for each of its N values, in ragged order, each
        seeing only values up to its own. Otherwise there is one a row.

        Args:
            view: the rows, and what is hidden of them.
            tower: whose fields, trunk and head to use.
            layers: depths (1-based) of the trunk whose token states are wanted.

        Raises:
            DataError: the batch lacks a field of the tower.
            UsageError: no such tower or depth, a view that leaves the tower no field, or a trunk that cannot do windows.
        """
        fields = self._fields(view, tower)
        trunk, head = self.trunk(tower), self.heads[tower]
        if layers and not 1 <= min(layers) <= max(layers) <= trunk.num_layers:
            raise UsageError(f"tower '{tower}': layers {list(layers)} were asked for, its trunk shows {trunk.num_layers or 'none'}")
        window = self._window(view, tower, fields)
        tokens, pooled, states = trunk(self.tokens(view, fields), window=window, layers=layers)
        if window is not None:
            pooled = drop_padding(pooled, view.batch.columns[window])
        raw = head(pooled)
        embedding = unit(raw) if head.normalized else raw.float()
        return Outputs(tokens, pooled, embedding, raw, head.prefixes, head.normalized, states)

    def tokens(self, view: View, fields: tuple[FieldSpec, ...]) -> Tokens:
        """Encode these fields of a view; tokens come in the order of ``fields``, whichever encoder made them. See ``Mix`` for mixtures."""
        by_encoder: dict[str, dict[str, Column]] = {}
        for field in fields:
            by_encoder.setdefault(self._encoder_of[field.name], {})[field.name] = view.batch.columns[field.name]
        parts = [self.encoders[name](columns, view) for name, columns in by_encoder.items()]
        tokens = Tokens.cat(parts).select([field.name for field in fields])
        if view.mix is None:
            return tokens
        return tokens.mixed(self.tokens(view.mix.other, fields), view.mix.rows, view.mix.share)

    @torch.inference_mode()
    def encode(self, batch: Batch, tower: str, *, hidden: Collection[str] = ()) -> Tensor:
        """Embeddings of a batch without gradient or dropout: float32 [B, E] ([N, E] for windows).

        ``hidden`` names fields that are not known of any row, which is not the same as known to be missing: they are hidden as an
        augmentation hides them, so a model that was trained on masked views knows what to make of such rows.
        """
        training = self.training
        if training:
            self.eval()
        try:
            masks = {name: torch.ones(len(batch.columns[name]), dtype=torch.bool, device=self._device()) for name in hidden}
            return cast(Outputs, self(View(batch, hidden=masks), tower)).embedding
        finally:
            if training:
                self.train()

    def _device(self) -> torch.device:
        return next(self.parameters()).device

    def _fields(self, view: View, tower: str) -> tuple[FieldSpec, ...]:
        if tower not in self.heads:
            raise UsageError(f"there is no tower '{tower}': the model has {', '.join(self.heads.keys())}")
        fields = self.spec.schema.tower_fields(tower)
        if view.fields is not None:
            fields = tuple(field for field in fields if field.name in view.fields)
        if not fields:
            raise UsageError(f"tower '{tower}': the view keeps none of its fields ({', '.join(self.spec.schema.towers[tower].fields)})")
        absent = [field.name for field in fields if field.name not in view.batch.columns]
        if absent:
            raise DataError(
                f"tower '{tower}' reads field '{absent[0]}', which the batch lacks; it has {', '.join(view.batch.columns) or 'none'}"
            )
        return fields

    def _window(self, view: View, tower: str, fields: tuple[FieldSpec, ...]) -> str | None:
        window = view.batch.window
        if window is None or view.batch.asks == "all" or all(field.name != window for field in fields):
            return None
        trunk = self.trunk(tower)
        if view.batch.asks == "own" and not (trunk.windows or trunk.sequences):
            raise UsageError(
                f"tower '{tower}': its trunk, as configured, cannot give a vector for each position of '{window}': "
                'use a transformer with causal = false and pooling = "last", or a stream with rows = "events"'
            )
        if view.batch.asks == "next" and not trunk.windows:
            raise UsageError(
                f"tower '{tower}': its trunk, as configured, cannot give a vector for each position of '{window}'; "
                'use a causal trunk or a stream with rows = "events"'
            )
        if not self.encoders[self._encoder_of[window]].one_token_a_value(self.spec.schema.fields[window]):
            raise UsageError(f"field '{window}': its encoder pools the values of a row, so positions cannot be told apart")
        if view.mix is not None:
            raise UsageError(f"field '{window}': each value of a window has a target, so its rows cannot be mixed with others")
        if view.fill == "drop" and (window in view.hidden or window in view.hidden_values):
            raise UsageError(f"field '{window}': each value of a window has a target, so none may be dropped: hide it by fill = replace")
        return window

    def _encoder(self, part: EncoderPart, stats: Mapping[str, FieldStats], sparse: bool) -> Encoder:
        fields = tuple(self.spec.schema.fields[name] for name in part.fields)
        accepts = cast(type[Encoder], part.entry.load()).accepts
        for field in fields:
            if field.type not in accepts:
                raise UsageError(
                    f"encoder '{part.entry.name}' cannot encode field '{field.name}' of type {field.type}: "
                    f"it accepts {', '.join(sorted(accepts))}"
                )
        context = EncoderContext(fields, {name: stats[name] for name in part.fields}, self.spec.dim, sparse, self.spec.seed, self.read)
        return cast(Encoder, part.create(context))

    def _head(self, tower: str) -> Head:
        return cast(Head, self.spec.heads[tower].create(HeadContext(tower, self.trunk(tower).pooled_dim)))

    def _read_towers(self) -> tuple[str, ...]:
        """The towers whose rows encoders read; their own fields must not need such a read."""
        schema = self.spec.schema
        reading = {name: encoder.reads for name, encoder in self.encoders.items() if encoder.reads is not None}
        for name, tower in reading.items():
            if tower not in schema.towers:
                raise UsageError(f"encoder '{name}' reads tower '{tower}'; the towers are {', '.join(schema.towers)}")
            own = [field.name for field in schema.tower_fields(tower) if self._encoder_of[field.name] in reading]
            if own:
                raise UsageError(f"encoder '{name}' reads tower '{tower}', whose field '{own[0]}' is itself read from a tower")
        return tuple(dict.fromkeys(reading.values()))

    def _encoder_for(self, field: FieldSpec, tower: str) -> Encoder:
        if field.name not in self._encoder_of:
            raise UsageError(f"tower '{tower}': no encoder serves field '{field.name}'; name it in the fields of one")
        return self.encoders[self._encoder_of[field.name]]

    def _free_name(self, name: str) -> str:
        taken = set(self.encoders.keys())
        return next(free for free in self._numbered(name) if free not in taken)

    @staticmethod
    def _numbered(name: str) -> Iterator[str]:
        yield name
        number = 2
        while True:
            yield f"{name}_{number}"
            number += 1


def drop_padding(x: Tensor, column: Column) -> Tensor:
    """[B, W, …] → [N, …]: one row for each value of a ragged column, in its order."""
    return x.flatten(0, 1).index_select(0, places(column, x.shape[1]))
