from __future__ import annotations

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest

from embedkit.data import vocabulary as module
from embedkit.data.vocabulary import Vocabulary, VocabularyBuilder
from embedkit.errors import BundleError, DataError


def built(*arrays, **options):
    builder = VocabularyBuilder("d")
    for array in arrays:
        builder.observe(array)
    return builder.build(**options)


def test_codes_follow_count_then_first_appearance():
    v = built(pa.array(["b", "a", "c", "a"]), pa.array(["c", None, "z"]))
    assert v.values.to_pylist() == ["a", "c", "b", "z"]
    assert v.counts.tolist() == [0, 2, 2, 1, 1]
    assert v.size == 5
    assert v.encode(pa.array(["z", "never", None, "a"])).tolist() == [4, 0, 0, 1]


def test_rare_values_share_the_unknown_code():
    v = built(pa.array([5, 5, 5, 6, 6, 7, 8]), min_count=2)
    assert v.values.to_pylist() == [5, 6]
    assert v.counts.tolist() == [2, 3, 2]
    assert built(pa.array([5, 5, 6, 7]), max_size=1).values.to_pylist() == [5]


def test_weights_count():
    builder = VocabularyBuilder()
    builder.observe(pa.array(["x", "y", None]), np.array([1, 5, 9]))
    assert builder.build().counts.tolist() == [0, 5, 1]


def test_chunking_changes_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    values = pa.array([f"v{i}" for i in rng.zipf(1.3, 5000) % 700])
    whole = built(values)
    pieces = built(*[values.slice(i, 37) for i in range(0, 5000, 37)])
    assert pieces.values.equals(whole.values)
    assert pieces.counts.tolist() == whole.counts.tolist()
    builder = VocabularyBuilder()
    for i in range(0, 5000, 37):
        builder.observe(values.slice(i, 37))
        builder._settle()
    assert builder.build().values.equals(whole.values)


@pytest.mark.parametrize(
    "values",
    [
        pa.array([1, 2, 3, 1000], pa.int16()),
        pa.array([-(2**62), 0, 2**62, 17]),
        pa.array([2**63 + 5, 1], pa.uint64()),
        pa.array(["a", "", "é", "a b"]),
        pa.array([b"a", b"\xff"]),
        pa.array([True, False]),
        pa.array([0.5, 3.5, -1e300]),
        pa.array([dt.date(2020, 1, 1), dt.date(1900, 1, 1)]),
        pa.array([1, 2**40], pa.timestamp("us")),
        pa.array([1, 2**30], pa.timestamp("s", "Asia/Tokyo")),
        pa.array(["p", "q"]).dictionary_encode(),
    ],
    ids=lambda a: str(a.type),
)
def test_every_kind_round_trips(values, tmp_path):
    v = built(values)
    assert v.encode(values).tolist() == list(range(1, len(values) + 1))
    shuffled = values.take(pa.array(np.random.default_rng(0).integers(0, len(values), 500)))
    assert v.values.take(pa.array(v.encode(shuffled) - 1)).equals(built(values).values.take(pa.array(v.encode(shuffled) - 1)))
    v.save(tmp_path / "v.parquet")
    again = Vocabulary.load(tmp_path / "v.parquet")
    assert again.values.equals(v.values)
    assert again.counts.tolist() == v.counts.tolist()
    assert again.fingerprint == v.fingerprint
    assert again.encode(values).tolist() == v.encode(values).tolist()


def test_large_vocabulary_equals_a_dict():
    rng = np.random.default_rng(1)
    for pool in (rng.integers(-(2**62), 2**62, 30_000), np.array([f"id{i}" for i in range(30_000)])):
        v = built(pa.array(pool))
        reference = {value: code for code, value in enumerate(v.values.to_pylist(), 1)}
        asked = pa.array(np.concatenate([rng.choice(pool, 3000), pool[:5] + (pool[5:10] if pool.dtype.kind == "i" else "x")]))
        assert v.encode(asked).tolist() == [reference.get(x, 0) for x in asked.to_pylist()]


def test_equal_hashes_are_told_apart(monkeypatch):
    monkeypatch.setattr(module, "hash_strings", lambda a: np.array([len(s or b"") % 2 for s in a.to_pylist()], dtype=np.uint64))
    v = built(pa.array(["a", "b", "cc", "ddd", "ee"]))
    assert v.encode(pa.array(["ee", "ddd", "b", "a", "cc", "f", "gg", None])).tolist() == [5, 4, 2, 1, 3, 0, 0, 0]


def test_types_are_kept_and_checked():
    v = built(pa.array([17850, 12]))
    assert v.encode(pa.array([17850.0, float("nan"), 99.0])).tolist() == [1, 0, 0]
    with pytest.raises(DataError, match="found text such as '17850', wanted integers"):
        v.encode(pa.array(["17850"]))
    with pytest.raises(DataError, match="found floats where integers"):
        v.encode(pa.array([1.5]))
    with pytest.raises(DataError, match="found values of type list<item: int64>"):
        v.encode(pa.array([[1]]))
    assert v.encode(pa.nulls(2)).tolist() == [0, 0]
    assert v.encode(pa.nulls(2, pa.string())).tolist() == [0, 0]
    with pytest.raises(DataError, match="domain 'd' would hold integers and text"):
        built(pa.array([1]), pa.array(["a"]))
    assert built(pa.array([1]), pa.array([2.0, float("nan")])).values.type == pa.int64()
    assert built(pa.array([2.0]), pa.array([1])).values.to_pylist() == [2, 1]
    with pytest.raises(DataError, match="found floats"):
        built(pa.array([1]), pa.array([2.5]))


def test_nothing_seen():
    for v in (built(), built(pa.nulls(3)), built(pa.nulls(3, pa.string()))):
        assert v.size == 1
        assert v.encode(pa.array(["a", None])).tolist() == [0, 0]


def test_zeros_are_one_value():
    assert built(pa.array([0.0, -0.0, 1.5])).counts.tolist() == [0, 2, 1]


def test_growth_appends_and_keeps_codes():
    old, new = built(pa.array(["a", "b", "a"])), built(pa.array(["z", "b", "y", "z"]), min_count=1)
    grown = old.grow(new)
    assert grown.values.to_pylist() == ["a", "b", "z", "y"]
    assert grown.counts.tolist() == [0, 2, 2, 2, 1]
    assert old.grow(built()).values.equals(old.values)
    assert built().grow(new).values.equals(new.values)
    assert old.grow(new).fingerprint != old.fingerprint
    with pytest.raises(DataError):
        old.grow(built(pa.array([1])))


def test_damaged_file_is_named(tmp_path):
    path = tmp_path / "v.parquet"
    path.write_bytes(b"PAR1 nonsense")
    with pytest.raises(BundleError, match=r"v\.parquet is not a vocabulary"):
        Vocabulary.load(path)
    with pytest.raises(BundleError):
        Vocabulary.load(tmp_path / "none.parquet")
