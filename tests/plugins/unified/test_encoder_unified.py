from __future__ import annotations

import math

import pytest
import torch

from embedkit.data.codec import FieldStats
from embedkit.data.columns import Column
from embedkit.errors import UsageError
from embedkit.nn.encoder import EncoderContext
from embedkit.testing.conformance.encoder import EncoderConformance, encode
from embedkit.testing.conformance.values import field, ragged
from embedkit_unified.configs import UnifiedEmbeddingConfig
from embedkit_unified.unified import UnifiedEmbedding

FIELDS = (field("id", "category", domain="item"), field("genres", "categories"), field("history", "sequence", domain="item"))
STATS = {"id": FieldStats(9, 0, size=7), "genres": FieldStats(9, 0, size=4), "history": FieldStats(9, 0, size=7, max_length=5)}


def make(fields=FIELDS, stats=STATS, dim=8, **options) -> UnifiedEmbedding:
    torch.manual_seed(0)
    return UnifiedEmbedding(UnifiedEmbeddingConfig(**options), context=EncoderContext(fields, stats, dim=dim)).eval()


class _Suite(EncoderConformance):
    options: dict = {"rows": 50}

    def encoder(self):
        return UnifiedEmbedding(UnifiedEmbeddingConfig(**self.options), context=EncoderContext(FIELDS, STATS, dim=8))

    def columns(self):
        return {
            "id": Column(torch.tensor([0, 3, 6, 2, 2])),
            "genres": ragged([[1, 2], [0], [3], [1, 1, 3], [2]]),
            "history": ragged([[5, 6, 1], [2], [4, 4], [3, 0], [1, 2, 3, 4, 5]]),
        }


class TestUnified(_Suite):
    pass


class TestPooled(_Suite):
    options = {"rows": 50, "pool_sequences": True}


class TestUnprojected(_Suite):
    options = {"rows": 50, "project": False}


class TestUnequalLookups(_Suite):
    options = {"rows": 50, "lookups": {"id": 3, "genres": 1}, "width": 4}


def test_a_value_is_its_lookups_end_to_end():
    encoder = make(rows=1000, project=False)
    rows = encoder.rows(FIELDS[0], torch.tensor([3]))[0]
    x = encode(encoder, {"id": Column(torch.tensor([3]))}).x[0, 0]
    torch.testing.assert_close(x, torch.cat([encoder.weight[rows[0]], encoder.weight[rows[1]]]))


def test_lists_are_averaged_before_the_projection():
    encoder = make(rows=1000)
    single = [encode(encoder, {"genres": ragged([[code]])}).x[0, 0] for code in (1, 3)]
    mean = encode(encoder, {"genres": ragged([[1, 3]])}).x[0, 0]
    torch.testing.assert_close(mean, (single[0] + single[1]) / 2)


def test_fields_of_a_domain_read_the_same_rows_and_others_do_not():
    encoder = make(rows=100_000)
    codes = torch.arange(7)
    assert torch.equal(encoder.rows(FIELDS[0], codes), encoder.rows(FIELDS[2], codes))
    assert not torch.equal(encoder.rows(FIELDS[0], codes), encoder.rows(FIELDS[1], codes))


def test_the_order_of_fields_changes_no_row():
    there, back = make(rows=500), make(FIELDS[::-1], rows=500)
    for spec in FIELDS:
        assert torch.equal(there.rows(spec, torch.arange(7)), back.rows(spec, torch.arange(7)))


def test_collisions_are_as_rare_as_chance_allows():
    """Fields and lookups collide independently: each with frequency 1 / rows, within three standard deviations."""
    rows, size = 997, 20_000
    fields = (field("a", "category"), field("b", "category"))
    encoder = make(fields, {name: FieldStats(9, 0, size=size) for name in "ab"}, rows=rows)
    codes = torch.arange(size)
    a, b = (encoder.rows(spec, codes) for spec in fields)
    spread = 3 * math.sqrt(1 / rows * (1 - 1 / rows) / size)
    for left, right in ((a[:, 0], b[:, 0]), (a[:, 0], a[:, 1]), (a[1:, 0], a[:-1, 0]), (b[1:, 1], b[:-1, 1])):
        assert abs((left == right).float().mean().item() - 1 / rows) < spread


def test_lookups_of_a_pair_of_values_collide_independently():
    """Two values meet in one lookup with frequency 1 / M, and in two with 1 / M², as independent hashes do."""
    rows, pairs = 31, 400_000
    fields = (field("a", "category"), field("b", "category"))
    encoder = make(fields, {name: FieldStats(9, 0, size=2 * pairs) for name in "ab"}, rows=rows)
    (left, right), other = encoder.rows(fields[0], torch.arange(2 * pairs)).view(2, pairs, 2), encoder.rows(fields[1], torch.arange(pairs))
    for one, two in ((left, right), (left, other)):
        met = one == two
        for share, expect in ((met[:, 0], 1 / rows), (met[:, 1], 1 / rows), (met.all(1), 1 / rows**2)):
            spread = 3 * math.sqrt(expect * (1 - expect) / pairs)
            assert abs(share.float().mean().item() - expect) < spread


def test_collisions_are_counted():
    spec = field("id", "category")
    encoder = make((spec,), {"id": FieldStats(9, 0, size=200)}, rows=64)
    rows = [tuple(row) for row in encoder.rows(spec, torch.arange(200)).tolist()]
    found = encoder.collisions(spec)
    assert found.size == 200
    assert found.full == pytest.approx(sum(rows.count(row) > 1 for row in rows) / 200)
    first = [row[0] for row in rows]
    assert found.first == pytest.approx(sum(first.count(row) > 1 for row in first) / 200)
    assert found.full < found.first


def test_rows_start_uniform_in_a_small_range():
    encoder = make(rows=5000)
    assert encoder.weight.abs().max() <= 0.05
    assert encoder.weight.std().item() == pytest.approx(0.05 / math.sqrt(3), rel=0.05)
    assert encoder.table_bytes == 5000 * 4 * 4
    assert [table.shape for table in encoder.tables()] == [(5000, 4)]


@pytest.mark.parametrize(
    ("options", "dim", "message"),
    [
        ({"lookups": 3}, 8, "dim 8 does not divide by 3 lookups: set width"),
        ({"width": 3, "project": False}, 8, "field 'id' has 2 lookups of width 3.*project = true"),
        ({"lookups": {"brand": 2}, "width": 4}, 8, "lookups names field 'brand'"),
    ],
)
def test_widths_must_fit(options, dim, message):
    with pytest.raises(UsageError, match=message):
        make(dim=dim, **options)
