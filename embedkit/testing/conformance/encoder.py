"""What every encoder must do. A plugin's test module subclasses ``EncoderConformance``::

class TestMine(EncoderConformance):
    def encoder(self):
        return MyEncoder(MyConfig(), context=EncoderContext(fields, stats, dim=8))

    def columns(self):
        return {"title": ragged([[3, 1], [], [2]])}
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from embedkit.data.batch import Batch
from embedkit.data.columns import Column, concat
from embedkit.nn.encoder import Encoder
from embedkit.nn.values import Tokens
from embedkit.testing.conformance.values import ROUNDING, deterministic, gradients
from embedkit.views import Fill, View

FILLS: tuple[Fill, ...] = ("replace", "drop")


class EncoderConformance:
    """Inherit, say how the encoder is made and what columns it reads, and let pytest run it."""

    @abstractmethod
    def encoder(self) -> Encoder:
        """A new encoder; its weights come from torch's global seed."""

    @abstractmethod
    def columns(self) -> Mapping[str, Column]:
        """A column for each of its fields: at least four rows, all present, their values not all equal; lists of unequal lengths."""

    def make(self, seed: int = 0) -> Encoder:
        """An encoder of a seed, in eval mode."""
        torch.manual_seed(seed)
        return self.encoder().eval()

    def test_shapes(self) -> None:
        """Spans come in the order of the fields, and a row has as many tokens as the encoder says."""
        encoder, columns = self.make(), self.columns()
        tokens = encode(encoder, columns)
        assert list(tokens.spans) == [spec.name for spec in encoder.context.fields]
        assert tokens.x.shape == (*tokens.pad.shape, encoder.context.dim)
        assert tokens.pad.dtype == tokens.hidden.dtype == torch.bool
        assert not tokens.hidden.any()
        for spec in encoder.context.fields:
            span = tokens.spans[spec.name]
            assert 1 <= span.stop - span.start <= encoder.max_tokens(spec)
            if encoder.one_token_a_value(spec):
                column = columns[spec.name]
                counts = (~tokens.pad[:, span]).sum(1)
                assert (counts == column.lengths()).logical_or(column.lengths() == 0).all(), "one token a value"

    def test_it_accepts_its_fields(self) -> None:
        """The types that it is tried with are types that it accepts."""
        encoder = self.make()
        assert {spec.type for spec in encoder.context.fields} <= encoder.accepts

    def test_rows_do_not_see_each_other(self) -> None:
        """A row's tokens are the same whatever else is in the batch."""
        encoder, columns = self.make(), self.columns()
        order = torch.arange(size(columns)).flip(0)[:-1]
        whole = rows(encode(encoder, columns))
        some = rows(encode(encoder, {name: column.take(order) for name, column in columns.items()}))
        for i, row in enumerate(order.tolist()):
            torch.testing.assert_close(some[i], whole[row])

    def test_hidden_rows_change_nothing(self) -> None:
        """What a hidden row holds changes no token; ``replace`` leaves one marked token, ``drop`` none."""
        encoder, columns = self.make(), self.columns()
        hide = torch.arange(size(columns)) % 2 == 0
        for fill in FILLS:
            for name, column in columns.items():
                other = swapped(column, hide)
                hidden = {name: hide}
                expect = encode(encoder, columns, hidden=hidden, fill=fill)
                assert_same(expect, encode(encoder, {**columns, name: other}, hidden=hidden, fill=fill))
                span = expect.spans[name]
                if fill == "replace":
                    assert (expect.hidden[:, span].any(1) == hide).all()
                    assert ((~expect.pad[hide, span]).sum(1) == 1).all(), "a hidden row has one token"
                else:
                    assert expect.pad[hide, span].all()
                    assert not expect.hidden[:, span].any()

    def test_hidden_values_change_nothing(self) -> None:
        """What a hidden value of a list is changes no token."""
        encoder, columns = self.make(), self.columns()
        for name, column in columns.items():
            if not column.ragged or column.values.shape[0] < 2:
                continue
            hide = torch.arange(column.values.shape[0]) % 2 == 0
            values = column.values.clone()
            values[hide] = column.values[hide].roll(1, 0)
            other = replace(column, values=values)
            for fill in FILLS:
                expect = encode(encoder, columns, hidden_values={name: hide}, fill=fill)
                assert_same(expect, encode(encoder, {**columns, name: other}, hidden_values={name: hide}, fill=fill))

    def test_missing_rows(self) -> None:
        """A missing row has one token a field, whatever its values hold, NaN and codes out of range included."""
        encoder, columns = self.make(), self.columns()
        present = torch.arange(size(columns)) % 2 == 0
        gone = {name: absent(column, present) for name, column in columns.items()}
        tokens = encode(encoder, gone)
        for span in tokens.spans.values():
            assert ((~tokens.pad[~present, span]).sum(1) == 1).all()
        assert tokens.x.isfinite().all()
        spoilt = {name: spoil(column, present) for name, column in gone.items()}
        assert_same(tokens, encode(encoder, spoilt))
        for name, gradient in gradients(encoder, lambda: total(encode(encoder, spoilt))).items():
            assert gradient.isfinite().all(), f"{name} has a gradient that is not finite"

    def test_empty_lists(self) -> None:
        """Empty lists have a defined meaning, also when a batch has nothing else."""
        encoder, columns = self.make(), self.columns()
        n = size(columns)
        empty = {
            name: replace(column, values=column.values[:0], offsets=torch.zeros(n + 1, dtype=torch.int64)) if column.ragged else column
            for name, column in columns.items()
        }
        tokens = encode(encoder, empty)
        assert tokens.x.isfinite().all()
        assert tokens.x.shape[0] == n

    def test_every_parameter_learns(self) -> None:
        """Visible, hidden, missing and empty values together reach every parameter."""
        encoder, columns = self.make(), self.columns()
        n = size(columns)
        bare = {name: with_empty(absent(column, torch.arange(n) > 0)) for name, column in columns.items()}
        hidden = {name: torch.arange(len(column)) == 1 for name, column in bare.items()}
        separate = [{name: column} for name, column in bare.items()]
        found = gradients(encoder, lambda: sum((total(encode(encoder, c, hidden=hidden)) for c in separate), torch.zeros(())))
        for name, gradient in found.items():
            assert gradient.isfinite().all()
            assert gradient.abs().max() > ROUNDING, f"no gradient reaches {name}"

    def test_state_moves_to_another_instance(self) -> None:
        """A state dict restores the outputs."""
        first, second, columns = self.make(0), self.make(1), self.columns()
        second.load_state_dict(first.state_dict())
        assert_same(encode(first, columns), encode(second, columns))

    def test_one_seed_one_result(self) -> None:
        """Equal bits, forward and backward, on as many threads as there are."""
        columns = self.columns()
        with deterministic():
            first, second = self.make(), self.make()
            assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
            left = gradients(first, lambda: total(encode(first, columns)))
            for _ in range(3):
                right = gradients(second, lambda: total(encode(second, columns)))
                assert all(torch.equal(left[name], right[name]) for name in left)

    def test_tables_are_its_own_parameters(self) -> None:
        """``tables`` names parameters of the encoder."""
        encoder = self.make()
        own = {id(parameter) for parameter in encoder.parameters()}
        assert all(id(table) in own for table in encoder.tables())


def encode(
    encoder: Encoder,
    columns: Mapping[str, Column],
    *,
    hidden: Mapping[str, Tensor] | None = None,
    hidden_values: Mapping[str, Tensor] | None = None,
    fill: Fill = "replace",
) -> Tokens:
    """Encode columns with these masks."""
    tokens: Tokens = encoder(columns, View(Batch(columns), hidden=hidden or {}, hidden_values=hidden_values or {}, fill=fill))
    return tokens


def size(columns: Mapping[str, Column]) -> int:
    """Rows of the columns."""
    return len(next(iter(columns.values())))


def rows(tokens: Tokens) -> list[Tensor]:
    """Each row's tokens without padding."""
    return [x[~pad] for x, pad in zip(tokens.x, tokens.pad, strict=True)]


def total(tokens: Tokens) -> Tensor:
    """A scalar that depends on every number of every token in a way of its own."""
    shown = tokens.x.masked_fill(tokens.pad.unsqueeze(-1), 0.0).float()
    scale = torch.linspace(0.5, 1.5, shown[0].numel()).view_as(shown[0])
    return (shown * scale).sum()


def assert_same(first: Tokens, second: Tokens) -> None:
    """Equal tokens, padding apart."""
    for name in first.spans:
        a, b = first.select([name]), second.select([name])
        for left, right in zip(rows(a), rows(b), strict=True):
            torch.testing.assert_close(left, right)
        assert [h[~p].tolist() for h, p in zip(a.hidden, a.pad, strict=True)] == [
            h[~p].tolist() for h, p in zip(b.hidden, b.pad, strict=True)
        ]


def swapped(column: Column, where: Tensor) -> Column:
    """The column with other values in these rows: those of the row before the last of them, and so on round."""
    chosen = where.nonzero().squeeze(1)
    index = torch.arange(len(column))
    index[chosen] = (chosen + 1) % len(column)
    return column.take(index)


def absent(column: Column, present: Tensor) -> Column:
    """The column with some rows missing; a missing list holds no values."""
    if column.offsets is None:
        return replace(column, present=present)
    kept = torch.where(present, column.lengths(), 0)
    mask = torch.repeat_interleave(present, column.lengths())
    return Column(column.values[mask], torch.cat([torch.zeros(1, dtype=torch.int64), kept.cumsum(0)]), present)


def with_empty(column: Column) -> Column:
    """A ragged column with one more row, an empty list."""
    if column.offsets is None:
        return column
    one = column.take(torch.arange(1))
    return concat([column, Column(one.values[:0], torch.zeros(2, dtype=torch.int64))])


def spoil(column: Column, present: Tensor) -> Column:
    """Garbage in the missing rows of a dense column."""
    if column.ragged:
        return column
    values = column.values.clone()
    values[~present] = float("nan") if values.dtype.is_floating_point else 2**40
    return replace(column, values=values)
