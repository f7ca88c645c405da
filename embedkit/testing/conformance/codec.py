"""The promises of a field type, as tests to inherit.

::

    class TestNumber(CodecConformance):
        codec = Number
        options = NumberOptions(scale="log")
        values = pa.array([1.0, None, 3.0])
        wrong = (pa.array(["a"]),)
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest
import torch

from embedkit.config.fields import ColumnSummary, FieldOptions, VocabularyOptions
from embedkit.data.codec import Codec, CodecContext
from embedkit.data.columns import Column, concat
from embedkit.data.vocabulary import VocabularyBuilder
from embedkit.errors import DataError
from embedkit.schema import FieldSpec


class CodecConformance:
    """Subclass with a name that starts with ``Test``.

    Attributes:
        codec: the class that is registered.
        options: its options.
        values: train values, some of them null.
        unseen: values of the right type that are not among the train values; None where there is no such thing.
        wrong: arrays that must be refused with a ``DataError``.
        shuffled: whether the fit promises not to depend on the order of the rows.
    """

    codec: ClassVar[type[Codec]]
    options: ClassVar[FieldOptions]
    values: ClassVar[pa.Array]
    unseen: ClassVar[pa.Array | None] = None
    wrong: ClassVar[tuple[pa.Array, ...]] = ()
    shuffled: ClassVar[bool] = False

    def spec(self) -> FieldSpec:
        """The field under test."""
        return FieldSpec("thing", "type", "table", "some_column", "domain")

    def fitted(self, arrays: Iterable[pa.Array] | None = None) -> Codec:
        """A codec fitted on arrays (the train values when left out), as ``Codecs`` fits it."""
        codec = self.codec(self.options, context=CodecContext(self.spec()))
        builder = VocabularyBuilder("domain")
        for array in [self.values] if arrays is None else arrays:
            codec.observe(array)
            if codec.uses_vocabulary:
                builder.observe(codec.vocabulary_values(array))
        if codec.uses_vocabulary:
            options = self.options if isinstance(self.options, VocabularyOptions) else VocabularyOptions()
            codec.use_vocabulary(builder.build(options.min_count, options.max_size))
        codec.finish()
        return codec

    # ------------------------------------------------------------------ what encode gives

    def test_column_is_well_formed(self) -> None:
        """Shapes, dtypes, offsets, masks, finite values, codes within the vocabulary."""
        codec = self.fitted()
        for values in self._asked():
            check_column(codec.encode(values), codec, len(values))

    def test_batch_equals_one_by_one(self) -> None:
        """A row is encoded alike whatever stands beside it, and whether the array is a slice or not."""
        codec = self.fitted()
        for values in self._asked():
            whole = codec.encode(values)
            rows = [codec.encode(values.slice(i, 1)) for i in range(len(values))]
            if rows:
                same_column(whole, concat(rows))

    def test_encode_repeats_and_leaves_no_trace(self) -> None:
        """Encoding changes neither later results nor the state."""
        codec = self.fitted()
        before = json.dumps(codec.state())
        first = codec.encode(self.values)
        if self.unseen is not None:
            codec.encode(self.unseen)
        same_column(first, codec.encode(self.values))
        assert json.dumps(codec.state()) == before, "encode changed the state"

    def test_missing_is_a_mask(self) -> None:
        """Null rows are not present, typed or not; others are."""
        codec = self.fitted()
        for values in (self.values, pa.nulls(3, self.values.type), pa.nulls(2)):
            column = codec.encode(values)
            present = torch.ones(len(values), dtype=torch.bool) if column.present is None else column.present
            null = np.asarray(values.is_null())
            assert not present.numpy()[null].any(), "a null is present"
            if not pa.types.is_floating(values.type):
                assert present.numpy()[~null].all(), "a value is not present"

    def test_no_rows(self) -> None:
        """No rows in, no rows out."""
        codec = self.fitted()
        assert len(codec.encode(self.values.slice(0, 0))) == 0
        check_column(codec.encode(self.values.slice(0, 0)), codec, 0)

    def test_unseen_values_are_counted(self) -> None:
        """Values that training did not see are no error; a type with a vocabulary gives them code 0 and counts them."""
        if self.unseen is None:
            return
        codec = self.fitted()
        column = codec.encode(self.unseen)
        check_column(column, codec, len(self.unseen))
        if codec.uses_vocabulary:
            zero = column.values == 0
            if not column.ragged and column.present is not None:
                zero &= column.present
            assert codec.unknown == int(zero.sum()) > 0, "unknown values are not counted"

    def test_wrong_types_are_refused(self) -> None:
        """A value that the field cannot be raises ``DataError``, while fitting and while encoding."""
        codec = self.fitted()
        for values in self.wrong:
            for attempt in (codec.encode, lambda array: self.fitted([self.values, array])):
                with pytest.raises(DataError, match=r"found|would hold"):
                    attempt(values)

    # ------------------------------------------------------------------ fitting and state

    def test_state_is_json_and_restores(self) -> None:
        """``state`` survives JSON, and a codec that loads it encodes alike and has the same statistics."""
        codec = self.fitted()
        state = json.loads(json.dumps(codec.state(), allow_nan=False))
        vocabulary = codec.vocabulary if codec.uses_vocabulary else None
        again = self.codec(self.options, context=CodecContext(self.spec(), vocabulary))
        again.load_state(state)
        for values in self._asked():
            same_column(codec.encode(values), again.encode(values))
        assert json.dumps(again.state()) == json.dumps(codec.state()), "the state changed on its way"
        assert same(vars(codec.stats), vars(again.stats)), "statistics differ after loading"

    def test_fit_does_not_depend_on_the_cut(self) -> None:
        """One array or many: the state is the same."""
        pieces = [self.values.slice(i, 2) for i in range(0, len(self.values), 2)]
        whole, cut = self.fitted(), self.fitted([self.values.slice(0, 0), *pieces])
        assert json.dumps(whole.state()) == json.dumps(cut.state()), "the state depends on how the stream is cut"
        same_column(whole.encode(self.values), cut.encode(self.values))

    def test_fit_does_not_depend_on_the_order(self) -> None:
        """Where it is promised."""
        if self.shuffled:
            order = pa.array(np.random.default_rng(0).permutation(len(self.values)))
            assert json.dumps(self.fitted().state()) == json.dumps(self.fitted([self.values.take(order)]).state())

    def test_fit_on_nothing(self) -> None:
        """No array, an array without rows, only nulls: all are defined."""
        for arrays in ([], [self.values.slice(0, 0)], [pa.nulls(3, self.values.type)], [pa.nulls(3)]):
            codec = self.fitted(arrays)
            check_column(codec.encode(self.values), codec, len(self.values))
            stats = codec.stats
            assert stats.rows == stats.missing == sum(len(a) for a in arrays)
            json.dumps(codec.state(), allow_nan=False)

    def test_statistics(self) -> None:
        """Counts of rows, sizes and quantiles are what ``FieldStats`` says."""
        codec = self.fitted()
        stats = codec.stats
        assert stats.rows == len(self.values)
        assert stats.missing >= self.values.null_count
        if stats.quantiles is not None:
            assert stats.quantiles.dtype == torch.float32
            assert len(stats.quantiles) >= 1
            assert bool((stats.quantiles[1:] > stats.quantiles[:-1]).all()), "quantiles are not ascending and distinct"
        if codec.uses_vocabulary:
            assert stats.size == codec.vocabulary.size
            assert stats.counts is not None
            assert stats.counts.dtype == torch.int64
            assert len(stats.counts) == stats.size
        if codec.ragged and stats.max_length is not None:
            assert int(codec.encode(self.values).lengths().max()) <= stats.max_length

    def test_options(self) -> None:
        """Options survive JSON, name an encoder, and judge columns between 0 and 1."""
        kind = type(self.options)
        assert kind.model_validate(json.loads(self.options.model_dump_json())) == self.options
        assert isinstance(kind.default_encoder, str)
        for dtype in ("int", "float", "string", "bool", "date", "datetime", "list[int]", "list[string]", "binary"):
            sample: list[Any] = [] if dtype not in {"int", "float"} else [1, 2]
            assert 0 <= kind.infer(ColumnSummary("column", dtype, 10, 0, 5, sample)) <= 1

    def _asked(self) -> list[pa.Array]:
        return [self.values] if self.unseen is None else [self.values, self.unseen]


def check_column(column: Column, codec: Codec, rows: int) -> None:
    """Assert that a column is what its codec promises for so many rows."""
    assert len(column) == rows, f"{rows} rows became {len(column)}"
    assert column.ragged == codec.ragged
    assert column.values.dtype in {torch.float32, torch.int64}, f"values are {column.values.dtype}"
    if column.values.is_floating_point():
        assert bool(torch.isfinite(column.values).all()), "a value is not finite"
        width = 1 if column.values.dim() == 1 else column.values.shape[1]
        assert width == codec.stats.width
    if column.offsets is not None:
        assert column.offsets.dtype == torch.int64
        assert int(column.offsets[0]) == 0
        assert int(column.offsets[-1]) == column.values.shape[0]
        assert bool((column.lengths() >= 0).all())
        if column.present is not None:
            assert int(column.lengths()[~column.present].sum()) == 0, "a missing row has values"
    if column.present is not None:
        assert column.present.dtype == torch.bool
        assert column.present.shape == (rows,)
    if codec.uses_vocabulary and not column.values.is_floating_point() and column.values.numel():
        assert int(column.values.min()) >= 0
        assert int(column.values.max()) < codec.vocabulary.size


def same_column(one: Column, other: Column) -> None:
    """Assert that two columns hold the same rows; ``present=None`` is all present."""
    assert len(one) == len(other)
    rows = len(one)
    a, b = (torch.ones(rows, dtype=torch.bool) if c.present is None else c.present for c in (one, other))
    assert bool((a == b).all()), "present differs"
    assert one.ragged == other.ragged
    if one.offsets is not None and other.offsets is not None:
        assert one.offsets.equal(other.offsets), "lengths differ"
        assert one.values.equal(other.values), "values differ"
    else:
        assert one.values[a].equal(other.values[a]), "values differ"


def same(one: Any, other: Any) -> bool:
    """Equality that reaches into mappings and tensors."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and one.equal(other)
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    return bool(one == other)
