"""Known answers: if one of these changes, bundles, splits and hashed tables of earlier versions change their meaning."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from embedkit.data import hashing
from embedkit.data.hashing import hash_arrays, hash_strings, mix, mix_array, salt, splitmix64
from embedkit.errors import DataError


def test_splitmix64_gives_the_published_sequence():
    # Vigna's splitmix64.c from state 0
    state = [i * 0x9E3779B97F4A7C15 & (1 << 64) - 1 for i in range(3)]
    assert [int(splitmix64(s)[0]) for s in state] == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]


def test_known_strings():
    found = [int(x) for x in hash_strings(pa.array(["", "a", "ab", "ba", "Ünïcode", "x" * 1000]))]
    assert found == STRINGS


def test_known_rows():
    rows = [
        pa.array([1, None, -3], pa.int32()),
        pa.array(["a", "b", None]),
        pa.array([0.5, float("nan"), -0.0]),
        pa.array([True, None, False]),
        pa.array([dt.date(2020, 2, 29), None, dt.date(1969, 12, 31)]),
        pa.array([[1, 2], [], None]),
    ]
    assert [int(x) for x in hash_arrays(rows, seed=7)] == ROWS


def test_known_salts_and_places():
    assert [salt("item", 0), salt("item", 1), salt("user", 0)] == SALTS
    assert mix_array(np.arange(5), salt("item", 0), 1000).tolist() == PLACES


def test_one_by_one_equals_batch_across_pieces(monkeypatch):
    rng = np.random.default_rng(0)
    values = ["".join(chr(97 + c) for c in rng.integers(0, 26, n)) for n in rng.integers(0, 40, 200)] + ["y" * 5000]
    batch = hash_strings(pa.array(values))
    assert batch.tolist() == [int(hash_strings(pa.array([v]))[0]) for v in values]
    monkeypatch.setattr(hashing, "_PIECE", 64)
    hashing._short_powers.cache_clear()
    try:
        assert hash_strings(pa.array(values)).tolist() == batch.tolist()
    finally:
        monkeypatch.undo()
        hashing._short_powers.cache_clear()
    assert hash_strings(pa.array(values).slice(50, 20)).tolist() == batch[50:70].tolist()


def test_no_collision_among_many_similar_strings():
    values = [f"{i}" for i in range(200_000)] + [f"SKU-{i:07d}-{j}" for i in range(50_000) for j in "AB"]
    assert len(np.unique(hash_strings(pa.array(values)))) == len(values)


def test_bits_are_even():
    bits = np.unpackbits(hash_strings(pa.array([f"{i}" for i in range(20_000)])).view(np.uint8)).reshape(-1, 64)
    assert np.abs(bits.mean(0) - 0.5).max() < 0.02


def test_rows_ignore_width_but_not_family():
    def one(array):
        return int(hash_arrays([array])[0])

    assert one(pa.array([7], pa.int8())) == one(pa.array([7], pa.uint64())) == one(pa.array([7]))
    assert one(pa.array(["a"])) == one(pa.array(["a"], pa.large_string())) == one(pa.array(["a"]).dictionary_encode())
    assert one(pa.array(["a"], pa.string_view())) == one(pa.array(["a"]))
    assert one(pa.array([b"a"], pa.binary(1))) == one(pa.array([b"a"]))
    assert one(pa.array([0.5], pa.float16())) == one(pa.array([0.5], pa.float32())) == one(pa.array([0.5]))
    assert one(pa.array([float("nan")])) == one(pa.array([None], pa.float64())) == one(pa.nulls(1))
    families = [
        pa.array([7]),
        pa.array([7.0]),
        pa.array(["7"]),
        pa.array([7], pa.timestamp("us")),
        pa.array([[7]]),
        pa.nulls(1),
    ]
    assert len({one(a) for a in families}) == len(families)
    assert one(pa.array([1], pa.timestamp("s", "Europe/Paris"))) == one(pa.array([1_000_000], pa.timestamp("us", "UTC")))


def test_rows_depend_on_column_order_seed_and_list_order():
    a, b = pa.array([1]), pa.array([2])
    assert hash_arrays([a, b])[0] != hash_arrays([b, a])[0]
    assert hash_arrays([a])[0] != hash_arrays([a], seed=1)[0]
    assert hash_arrays([pa.array([[1, 2]])])[0] != hash_arrays([pa.array([[2, 1]])])[0]
    assert hash_arrays([pa.array([[]], pa.list_(pa.int64()))])[0] != hash_arrays([pa.nulls(1, pa.list_(pa.int64()))])[0]
    lists = pa.array([[9], [1, 2], None, [], [1, 2]])
    assert hash_arrays([lists])[1] == hash_arrays([lists])[4] == hash_arrays([lists.slice(4)])[0]


def test_a_type_without_hash_is_refused():
    with pytest.raises(DataError, match="duration"):
        hash_arrays([pa.array([1], pa.duration("s"))])


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=50),
    st.integers(0, 2**64 - 1),
    st.integers(1, 2**62),
)
def test_torch_and_numpy_mixers_agree(codes, salt_, rows):
    array = np.array(codes, dtype=np.int64)
    assert mix(torch.from_numpy(array), salt_, rows).tolist() == mix_array(array, salt_, rows).tolist()


def test_mixed_places_are_even():
    places = mix_array(np.arange(200_000), salt("d", 3), 100)
    counts = np.bincount(places, minlength=100)
    chi2 = ((counts - 2000) ** 2 / 2000).sum()
    assert chi2 < 170  # 99 degrees of freedom, p < 1e-5


STRINGS = [
    16294208416658607535,
    6748544209977690797,
    6978196097925731809,
    2382400735937132652,
    6759633094022180958,
    11000999131040951457,
]
ROWS = [6195118790269700259, 10825756235919365383, 13211597372399121594]
SALTS = [16845879203673168993, 3928916478557025825, 425663481386925318]
PLACES = [935, 868, 147, 533, 493]
