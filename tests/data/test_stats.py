from __future__ import annotations

import numpy as np
import pytest
import torch

from embedkit.data.codec import FieldStats
from embedkit.data.columns import Column
from embedkit.data.stats import MutualInformation, bin_column, mutual_information, usable_bins


def categories(codes, size):
    return Column(torch.from_numpy(codes.astype(np.int64))), FieldStats(len(codes), 0, size=size)


def ragged(rows):
    values = torch.tensor([v for row in rows for v in row], dtype=torch.int64)
    return Column(values, torch.tensor([0, *np.cumsum([len(r) for r in rows])]))


def matrix_of(fields, **options):
    mi = MutualInformation({name: stats for name, (_, stats) in fields.items()}, **options)
    mi.observe({name: column for name, (column, _) in fields.items()})
    return mi.matrix()


def test_known_value():
    # X uniform on 4 values, Y its parity: I = log 2, up to the correction (4 + 2 - 4 - 1) / 2N
    x = np.tile(np.arange(4), 1000)
    found = matrix_of({"x": categories(x, 5), "y": categories(x % 2, 3)})
    assert found[0, 1] == pytest.approx(np.log(2) + 1 / 8000, abs=1e-12)
    assert found[0, 0] == pytest.approx(np.log(4) + 3 / 8000, abs=1e-12)
    assert (found == found.T).all()


@pytest.mark.parametrize(("rows", "size"), [(1000, 50), (4000, 2000), (20_000, 300)])
def test_independent_fields_share_nothing(rows, size):
    rng = np.random.default_rng(0)
    fields = {name: categories(rng.integers(0, size, rows), size) for name in "abcd"}
    found = matrix_of(fields)
    apart = found[~np.eye(4, dtype=bool)]
    assert apart.max() < 0.06


def test_planted_pairs_find_each_other():
    rng = np.random.default_rng(1)
    rows, pairs = 3000, 8
    fields = {}
    for i in range(pairs):
        size = (3, 10, 60, 1500)[i % 4]
        one = rng.integers(0, size, rows)
        copy = np.where(rng.random(rows) < 0.1, rng.integers(0, size, rows), one)
        fields[f"a{i}"], fields[f"b{i}"] = categories(one, size), categories(copy, size)
    found = matrix_of(fields)
    np.fill_diagonal(found, -1)
    assert (found.argmax(1) == np.arange(2 * pairs) ^ 1).all()


def test_numbers_and_lists_and_missing_values():
    rng = np.random.default_rng(2)
    x = rng.normal(size=4000).astype(np.float32)
    edges = torch.from_numpy(np.quantile(x, np.linspace(0, 1, 65)).astype(np.float32))
    number = (Column(torch.from_numpy(x)), FieldStats(4000, 0, quantiles=edges))
    tags = [[1, 2] if v > 0.5 else [] if v > 0 else [3] for v in x]
    missing = torch.from_numpy(x < 1)
    noise = (Column(torch.from_numpy(rng.normal(size=4000).astype(np.float32)), None, missing), number[1])
    other = categories(rng.integers(0, 5, 4000), 6)
    found = matrix_of({"x": number, "tags": (ragged(tags), FieldStats(4000, 0, size=4)), "noise": noise, "other": other})
    assert found[0, 1] > 0.8
    assert found[0, 2] > 0.3  # that a value is missing says something
    assert found[0, 3] < 0.02


def test_bins():
    stats = FieldStats(4, 1, quantiles=torch.tensor([0.0, 1.0, 2.0]))
    column = Column(torch.tensor([-5.0, 0.5, 1.0, 99.0, 0.0]), None, torch.tensor([True, True, True, True, False]))
    assert bin_column(column, stats, 256).tolist() == [1, 1, 2, 2, 0]
    assert bin_column(column, stats, 2).max() == 1
    wide = Column(torch.tensor([[9.0, 0.5], [9.0, 1.5]]))
    assert bin_column(wide, stats, 256).tolist() == [1, 2]
    codes = Column(torch.tensor([0, 1, 2]))
    assert bin_column(codes, FieldStats(3, 0, size=3), 256).tolist() == [1, 2, 3]
    hashed = bin_column(Column(torch.arange(1000)), FieldStats(3, 0, size=1000), 16)
    assert hashed.min() == 1
    assert hashed.max() == 15
    lists = bin_column(ragged([[1, 2], [2, 1], [], [1]]), FieldStats(4, 0, size=3), 256)
    assert lists[0] == lists[1]
    assert len(set(lists.tolist())) == 3
    constant = FieldStats(4, 0, quantiles=torch.tensor([0.0]))
    assert bin_column(column, constant, 256)[:4].tolist() == [1, 1, 1, 1]


def test_counts_of_parts_add_up():
    rng = np.random.default_rng(3)
    codes = {name: rng.integers(0, 7, 500) for name in "ab"}
    stats = {name: FieldStats(500, 0, size=7) for name in codes}

    def counted(rows):
        mi = MutualInformation(stats)
        mi.observe({name: Column(torch.from_numpy(c[rows])) for name, c in codes.items()})
        return mi

    whole, part = counted(slice(0, 500)), counted(slice(0, 123))
    part.merge(counted(slice(123, 500)))
    assert part.rows == 500
    assert (part.matrix() == whole.matrix()).all()
    with pytest.raises(ValueError, match="other fields"):
        part.merge(MutualInformation({"a": stats["a"]}))


def test_few_rows_take_few_bins():
    assert usable_bins(10) == 8
    assert usable_bins(3883) == 31
    assert usable_bins(10**7) == 256
    assert usable_bins(10**7, 64) == 64


def test_columns_in_memory():
    rng = np.random.default_rng(4)
    x = rng.normal(size=5000).astype(np.float32)
    code = np.digitize(x, [-1, 0, 1])
    wide = Column(torch.from_numpy(np.stack([rng.normal(size=5000), x], 1).astype(np.float32)))
    lists = ragged([[int(c)] for c in code])
    columns = [
        Column(torch.from_numpy(x)),
        Column(torch.from_numpy(code)),
        wide,
        lists,
        Column(torch.from_numpy(rng.integers(0, 900, 5000))),
    ]
    found = mutual_information(columns)
    _, counts = np.unique(code, return_counts=True)
    entropy = -(counts / 5000 * np.log(counts / 5000)).sum()
    for other in (0, 2, 3):
        assert found[1, other] == pytest.approx(entropy, rel=0.06)
    assert found[4, :4].max() < 0.05
    nothing = Column(torch.zeros(3), None, torch.zeros(3, dtype=torch.bool))
    assert mutual_information([nothing, nothing]).tolist() == [[0, 0], [0, 0]]


def test_nothing_counted():
    assert MutualInformation({"a": FieldStats(0, 0, size=1)}).matrix().tolist() == [[0.0]]
    assert MutualInformation({}).matrix().shape == (0, 0)
