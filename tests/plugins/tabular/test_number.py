from __future__ import annotations

import datetime as dt
import decimal

import numpy as np
import pyarrow as pa
import pytest

from embedkit.data.codec import BadValue, CodecContext
from embedkit.schema import FieldSpec
from embedkit.testing.conformance.codec import CodecConformance
from embedkit_tabular.fields import NumberOptions
from embedkit_tabular.moments import Moments, Sample
from embedkit_tabular.number import Number


class TestLinear(CodecConformance):
    codec = Number
    options = NumberOptions()
    values = pa.array([1.0, None, 3.0, float("nan"), -7.5, 1e9])
    unseen = pa.array([1e300, -1e308, 5e-324, None])
    wrong = (pa.array(["1"]), pa.array([dt.date(2020, 1, 1)]), pa.array([[1]]), pa.array([1.0, float("inf")]))


class TestLog(CodecConformance):
    codec = Number
    options = NumberOptions(scale="log", quantiles=3, clip=4)
    values = pa.array([0, 1, 10, None, 100, 100000, -5], pa.int32())
    unseen = pa.array([10**18, -(10**18)])
    wrong = (pa.array([float("-inf")]),)


class TestWeight(CodecConformance):
    """As it stands: not standardised, cut or scaled."""

    codec = Number
    options = NumberOptions(clip=1)
    values = pa.array([0.0, None, 3.0, 250.0])
    unseen = pa.array([7.0])
    wrong = (pa.array(["1"]), pa.array([1.0, -0.5]))

    def spec(self):
        return FieldSpec("w", "number", "t", "w", "w", "weight")

    def test_values(self):
        assert self.fitted().encode(self.values).values.tolist() == [0.0, 0.0, 3.0, 250.0]


def fitted(*arrays, **options):
    codec = Number(NumberOptions(**options), context=CodecContext(FieldSpec("n", "number", "t", None, "n")))
    for array in arrays:
        codec.observe(array)
    codec.finish()
    return codec


def test_train_values_are_standardised():
    rng = np.random.default_rng(0)
    x = rng.gamma(2.0, 3.0, 200_000)
    codec = fitted(*(pa.array(part) for part in np.array_split(x, 7)))
    z = codec.encode(pa.array(x)).values
    assert float(z.mean()) == pytest.approx(0, abs=1e-5)
    assert float(z.std()) == pytest.approx(1, abs=1e-3)
    edges = codec.stats.quantiles
    assert len(edges) == 65
    exact = np.quantile(z.numpy(), np.linspace(0, 1, 65))
    assert np.abs(np.searchsorted(np.sort(z.numpy()), edges[1:-1].numpy()) / len(x) - np.linspace(0, 1, 65)[1:-1]).max() < 0.01
    assert float(edges[0]) == pytest.approx(exact[0])
    assert float(edges[-1]) == pytest.approx(exact[-1])


def test_a_column_that_is_mostly_zero_keeps_edges_where_it_says_something():
    rng = np.random.default_rng(0)
    x = np.where(rng.random(20_000) < 0.95, 0.0, rng.gamma(2.0, 3.0, 20_000))
    codec = fitted(pa.array(x), quantiles=32, clip=100)
    edges = codec.restore(codec.stats.quantiles.double()).numpy()
    assert len(edges) == 33
    assert edges[0] == pytest.approx(0, abs=1e-6)
    shared = np.histogram(x[x > 0], np.unique(edges[1:]))[0]
    assert shared.sum() >= 0.99 * (x > 0).sum()
    assert shared.min() > 0.9 * shared.mean()


def test_a_frequent_value_is_an_edge_wherever_it_lies():
    rng = np.random.default_rng(1)
    x = np.where(rng.random(5_000) < 0.5, 40.0, rng.uniform(0, 100, 5_000))
    codec = fitted(pa.array(x), quantiles=8)
    edges = codec.restore(codec.stats.quantiles.double()).numpy()
    assert len(edges) == 9
    assert np.abs(edges - 40.0).min() < 1e-4
    assert edges[[0, -1]] == pytest.approx([x.min(), x.max()], abs=1e-4)


def test_few_values_are_all_edges():
    codec = fitted(pa.array([1, 1, 1, 1, 1, 1, 1, 2, 5]), quantiles=8)
    assert codec.restore(codec.stats.quantiles.double()).tolist() == pytest.approx([1, 2, 5], abs=1e-5)


def test_log_scale_is_symmetric_and_ordered():
    codec = fitted(pa.array([-100.0, 0.0, 100.0]), scale="log")
    z = codec.encode(pa.array([-100.0, -1.0, 0.0, 1.0, 100.0])).values
    assert z[2] == 0
    assert (z + z.flip(0)).abs().max() < 1e-6
    assert (z[1:] > z[:-1]).all()


def test_absurd_values_are_cut_not_spread():
    codec = fitted(pa.array(np.linspace(0, 1, 1000)))
    assert codec.encode(pa.array([1e300, -1e300])).values.tolist() == [10, -10]
    wild = fitted(pa.array([1e300, -1e300, 0.0, 1.0]))
    assert wild.encode(pa.array([1e300, 0.0])).values.isfinite().all()
    assert all(np.isfinite(list(wild.state()["edges"])))


def test_constant_and_empty_columns():
    constant = fitted(pa.array([5, 5, None]))
    assert constant.encode(pa.array([5, 6])).values.tolist() == [0, 1]
    assert constant.stats.quantiles.tolist() == [0]
    # 0.1 summed many times must not look like a spread
    assert fitted(pa.array([0.1] * 100_001)).encode(pa.array([0.1])).values.tolist() == [0]
    empty = fitted(pa.nulls(3))
    assert empty.encode(pa.array([5.0, None])).values.tolist() == [5, 0]


def test_kinds_of_numbers():
    codec = fitted(pa.array([0.0, 1.0]))
    expected = codec.encode(pa.array([1.0, 0.0])).values.tolist()
    for array in (
        pa.array([1, 0], pa.uint8()),
        pa.array([True, False]),
        pa.array([decimal.Decimal("1.00"), decimal.Decimal("0.00")]),
        pa.array([1.0, 0.0], pa.float16()),
        pa.array([1, 0]).dictionary_encode(),
    ):
        assert codec.encode(array).values.tolist() == expected


def test_message_names_row_found_and_wanted():
    with pytest.raises(BadValue, match=r"^t: column 'n', row 1: found 'x' \(string\), wanted a number: cast the column"):
        fitted(pa.array([None, "x"]))
    with pytest.raises(BadValue, match="type 'timestamp'"):
        fitted(pa.array([dt.datetime(2020, 1, 1)]))


def test_moments_equal_numpy_and_ignore_the_cut():
    rng = np.random.default_rng(1)
    x = rng.normal(1e6, 1e-3, 150_000)
    results = set()
    for size in (1000, 65_536, 150_000):
        moments = Moments()
        for start in range(0, len(x), size):
            moments.observe(x[start : start + size])
        results.add(moments.finish())
    assert len(results) == 1
    mean, deviation = results.pop()
    assert mean == pytest.approx(x.mean(), rel=1e-14)
    assert deviation == pytest.approx(x.std(), rel=1e-6)


def test_sample_ignores_the_cut(monkeypatch):
    monkeypatch.setattr("embedkit_tabular.moments._SAMPLE", 500)
    x = np.random.default_rng(2).normal(size=20_000)
    drawn = []
    for size in (7, 999, 20_000):
        sample = Sample()
        for start in range(0, len(x), size):
            sample.observe(x[start : start + size])
        assert len(sample._values) == 500
        drawn.append(sample.edges(10, x.min(), x.max()).tolist())
    assert drawn[0] == drawn[1] == drawn[2]
