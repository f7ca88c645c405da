from __future__ import annotations

import datetime as dt

import pyarrow as pa
import pytest

from embedkit.errors import DataError
from embedkit.schema import FieldSpec
from embedkit.testing.conformance.codec import CodecConformance
from embedkit_tabular.categories import Categories
from embedkit_tabular.category import Category
from embedkit_tabular.fields import CategoriesOptions, CategoryOptions

LISTS = pa.array([["a", "b"], [], None, ["a", None], ["c"] * 4])


class TestText(CodecConformance):
    codec = Category
    options = CategoryOptions(min_count=2)
    values = pa.array(["a", "b", None, "a", "c", "b", ""])
    unseen = pa.array(["x", None, "a"])
    wrong = (pa.array([1]), pa.array([["a"]]))


class TestIntegers(CodecConformance):
    codec = Category
    options = CategoryOptions()
    values = pa.array([5, 6, None, 5], pa.int32())
    unseen = pa.array([7, 5, None])
    wrong = (pa.array(["5"]), pa.array([5.5]), pa.array([dt.date(2020, 1, 1)]))


class TestFloatIds(CodecConformance):
    """Integers with gaps, as pandas hands them over."""

    codec = Category
    options = CategoryOptions(max_size=1)
    values = pa.array([5.0, 6.0, float("nan"), 5.0, None])
    unseen = pa.array([7.0])
    wrong = (pa.array(["5"]),)


class TestDictionary(CodecConformance):
    codec = Category
    options = CategoryOptions()
    values = pa.array(["a", None, "b", "a"]).dictionary_encode()
    unseen = pa.array(["c", "a"]).dictionary_encode()


class TestWeights(CodecConformance):
    codec = Category
    options = CategoryOptions(weights={"view": 0.25, "7": 2.0})
    values = pa.array(["view", "7", None, "view"])
    wrong = (pa.array(["view", "buy"]),)

    def spec(self):
        return FieldSpec("importance", "category", "events", "kind", "importance", "weight")

    def test_values(self):
        assert self.fitted().encode(self.values).values.tolist() == [0.25, 2.0, 0.0, 0.25]
        assert self.fitted().encode(pa.array([7, 7])).values.tolist() == [2.0, 2.0]
        with pytest.raises(DataError, match="row 1: found 'buy', wanted one of view, 7: give it a weight too"):
            self.fitted().encode(pa.array(["view", "buy"]))


class TestLists(CodecConformance):
    codec = Categories
    options = CategoriesOptions()
    values = LISTS
    unseen = pa.array([["z", "a"], []])
    wrong = (pa.array(["a"]), pa.array([[1]]))


class TestSeparated(CodecConformance):
    codec = Categories
    options = CategoriesOptions(separator="|")
    values = pa.array(["Action|Comedy", "", None, "Comedy"])
    unseen = pa.array(["Action|Noir"])
    wrong = (pa.array([1]),)


def test_empty_missing_and_unseen_lists():
    codec = TestLists().fitted()
    column = codec.encode(pa.array([["b", "zz", "a"], [], None, [None]]))
    assert column.values.tolist() == [3, 0, 2]
    assert column.lengths().tolist() == [3, 0, 0, 0]
    assert column.present.tolist() == [True, True, False, True]
    assert codec.unknown == 1
    assert codec.dropped == 2  # one in training, one here
    assert codec.stats.max_length == 4


@pytest.mark.parametrize("kind", [pa.large_list(pa.string()), pa.list_(pa.large_string()), pa.list_(pa.dictionary(pa.int8(), pa.string()))])
def test_other_list_types(kind):
    codec = TestLists().fitted()
    assert codec.encode(LISTS.cast(kind)).values.tolist() == codec.encode(LISTS).values.tolist()


def test_fixed_size_lists():
    codec = TestLists().fitted()
    fixed = pa.array([["a", "b"], None, ["c", None]], pa.list_(pa.string(), 2))
    column = codec.encode(fixed)
    assert column.lengths().tolist() == [2, 0, 1]
    assert column.values.tolist() == [2, 3, 1]
