"""The kinds of ``unified_embedding``: one budget of rows, several ways to spend it."""

from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError

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
A, B = field("a", "category"), field("b", "category")

KINDS = [
    {"kind": "unified", "tables": 3},
    {"kind": "hashed"},
    {"kind": "per_field"},
    {"kind": "quotient_remainder", "combine": "multiply"},
    {"kind": "quotient_remainder", "combine": "add"},
    {"kind": "quotient_remainder", "combine": "concat"},
    {"kind": "frequency", "head": 4},
    {"kind": "frequency"},
]


def make(fields=FIELDS, stats=STATS, dim=8, seed=0, **options) -> UnifiedEmbedding:
    torch.manual_seed(seed)
    return UnifiedEmbedding(UnifiedEmbeddingConfig(**options), context=EncoderContext(fields, stats, dim=dim)).eval()


def two(sizes, *, counts=None, **options):
    """An encoder of two fields of these sizes."""
    counts = counts or {}
    stats = {name: FieldStats(9, 0, size=size, counts=counts.get(name)) for name, size in zip("ab", sizes, strict=True)}
    return make((A, B), stats, **options)


class _Suite(EncoderConformance):
    options: dict

    def encoder(self):
        return UnifiedEmbedding(UnifiedEmbeddingConfig(**self.options), context=EncoderContext(FIELDS, STATS, dim=8))

    def columns(self):
        return {
            "id": Column(torch.tensor([0, 3, 6, 2, 2])),
            "genres": ragged([[1, 2], [0], [3], [1, 1, 3], [2]]),
            "history": ragged([[5, 6, 1], [2], [4, 4], [3, 0], [1, 2, 3, 4, 5]]),
        }


class TestSeveralTables(_Suite):
    options = {"rows": 50, "tables": 3}


class TestHashed(_Suite):
    options = {"rows": 50, "kind": "hashed", "lookups": {"id": 2, "history": 2, "genres": 1}, "width": 4}


class TestPerField(_Suite):
    options = {"rows": 50, "kind": "per_field"}


class TestMultiplied(_Suite):
    options = {"rows": 50, "kind": "quotient_remainder"}


class TestMultipliedAndPooled(_Suite):
    options = {"rows": 50, "kind": "quotient_remainder", "pool_sequences": True, "lookups": 1}


class TestAdded(_Suite):
    options = {"rows": 50, "kind": "quotient_remainder", "combine": "add", "pool_sequences": True}


class TestConcatenated(_Suite):
    options = {"rows": 50, "kind": "quotient_remainder", "combine": "concat", "project": False}


class TestFrequency(_Suite):
    options = {"rows": 50, "kind": "frequency", "head": 5}


@pytest.mark.parametrize("options", KINDS, ids=str)
def test_every_kind_keeps_to_its_rows(options):
    encoder = make(rows=40, **options)
    assert sum(table.shape[0] for table in encoder.tables()) == 40
    assert encoder.table_bytes == 40 * 4 * 4
    for spec in FIELDS:
        rows = encoder.rows(spec, torch.arange(STATS[spec.name].size))
        assert rows.min() >= 0
        assert rows.max() < 40


@pytest.mark.parametrize("options", KINDS, ids=str)
def test_fields_of_a_domain_are_one_and_their_order_is_nothing(options):
    there, back = make(rows=40, **options), make(FIELDS[::-1], rows=40, **options)
    codes = torch.arange(7)
    assert torch.equal(there.rows(FIELDS[0], codes), there.rows(FIELDS[2], codes))
    for spec in FIELDS:
        codes = torch.arange(STATS[spec.name].size)
        assert torch.equal(there.rows(spec, codes), back.rows(spec, codes))


@pytest.mark.parametrize("options", KINDS, ids=str)
def test_pooled_lists_are_means_of_their_values(options):
    """Products of rows do not add up, so each kind must average what its values are, not what they read."""
    encoder = make(rows=40, **options)
    single = [encode(encoder, {"genres": ragged([[code]])}).x[0, 0] for code in (1, 3)]
    mean = encode(encoder, {"genres": ragged([[1, 3]])}).x[0, 0]
    torch.testing.assert_close(mean, (single[0] + single[1]) / 2)


def test_lookups_go_round_the_tables():
    encoder = two((200, 200), rows=90, tables=3, lookups=3, width=4)
    assert [table.shape for table in encoder.tables()] == [(30, 4)] * 3
    for spec in (A, B):
        tables = encoder.rows(spec, torch.arange(200)) // 30
        assert (tables == tables[0]).all(), "a lookup reads one table"
        assert sorted(tables[0].tolist()) == [0, 1, 2]
    rows = encoder.rows(A, torch.tensor([5]))[0]
    x = encoder._joined(A, torch.tensor([5]))[0]
    weight = torch.cat(list(encoder.tables()))
    torch.testing.assert_close(x, weight[rows].flatten())


def test_hashed_values_meet_wholly_or_not_at_all():
    encoder = two((300, 300), rows=100, kind="hashed")
    rows = encoder.rows(A, torch.arange(300))
    assert (rows[:, 1] == rows[:, 0] + 1).all()
    found = encoder.collisions(A)
    assert found.first == found.full > 0.9
    assert two((300, 300), rows=100).collisions(A).full < found.full


def test_fields_have_shares_in_proportion_to_their_sizes():
    encoder = two((900, 100), rows=101, kind="per_field")
    a, b = encoder.rows(A, torch.arange(900)), encoder.rows(B, torch.arange(100))
    assert len(a.unique()) + len(b.unique()) <= 101
    assert a.max() < b.min()
    assert encoder.deal.tolist() == [[0, 90], [90, 11]]
    assert encoder.collisions(A).between == 0
    assert two((900, 100), rows=101).collisions(A).between > 0.5


@pytest.mark.parametrize("combine", ["multiply", "add", "concat"])
def test_no_quotient_and_remainder_are_shared(combine):
    """1,000 values in 80 rows, and no two are alike; 100 rows would hold 10 values without."""
    encoder = two((1000, 4), rows=200, kind="quotient_remainder", combine=combine)
    found = encoder.collisions(A)
    assert found.full == 0
    assert found.first > 0.9


def test_quotients_go_round_when_rows_are_few():
    encoder = two((5000, 4), rows=60, kind="quotient_remainder", lookups=1, dim=4)
    assert encoder.collisions(A).full > 0.5
    assert encoder.rows(A, torch.arange(5000)).max() < 60


def test_rows_are_combined_as_told():
    for combine, expect in (("multiply", torch.mul), ("add", torch.add)):
        encoder = two((50, 4), rows=60, kind="quotient_remainder", combine=combine, project=False)
        rows = encoder.rows(A, torch.tensor([37]))[0]
        remainder, quotient = encoder.weight[rows[:2]].flatten(), encoder.weight[rows[2:]].flatten()
        torch.testing.assert_close(encode(encoder, {"a": Column(torch.tensor([37]))}).x[0, 0], expect(remainder, quotient))
    encoder = two((50, 4), rows=60, kind="quotient_remainder", combine="concat", project=False)
    rows = encoder.rows(A, torch.tensor([37]))[0]
    torch.testing.assert_close(encode(encoder, {"a": Column(torch.tensor([37]))}).x[0, 0], encoder.weight[rows].flatten())


def test_factors_start_about_one():
    encoder = two((400, 300), rows=200, kind="quotient_remainder")
    x = torch.cat([encoder._joined(A, torch.arange(400)), encoder._joined(B, torch.arange(300))])
    assert x.std().item() == pytest.approx(0.05 / math.sqrt(3), rel=0.1)


def test_the_most_frequent_values_own_rows():
    counts = {"a": torch.tensor([5, 90, 70, 3, 2, 1]), "b": torch.tensor([0, 80, 60, 50, 1])}
    encoder = two((6, 5), counts=counts, rows=30, kind="frequency", head=5)
    a, b = encoder.rows(A, torch.arange(6)), encoder.rows(B, torch.arange(5))
    owned = torch.cat([a[1:3], b[1:4]]).flatten()
    assert len(owned.unique()) == 10
    others = torch.cat([a[[0, 3, 4, 5]], b[[0, 4]]]).flatten()
    assert not torch.isin(others, owned).any()


def test_half_of_the_rows_are_the_heads_unless_told():
    encoder = two((500, 500), rows=100, kind="frequency")
    assert int(encoder.deal[:, 1].sum()) * 2 == 50


@pytest.mark.parametrize("options", KINDS, ids=str)
def test_a_vocabulary_that_grows_moves_no_row(options):
    """A warm start, and a bundle that is loaded: rows are those of the deal that came with the weights."""
    counts = torch.arange(60).flip(0)
    old = two((60, 20), rows=80, counts={"a": counts}, **options)
    grown = {"a": torch.cat([counts, torch.full((60,), 1000)])}
    new = two((120, 90), rows=80, counts=grown, seed=1, **options)
    new.load_state_dict(old.state_dict())
    for spec, size in ((A, 60), (B, 20)):
        codes = torch.arange(size)
        assert torch.equal(new.rows(spec, codes), old.rows(spec, codes))
        assert torch.equal(new.lookup(spec, codes), old.lookup(spec, codes))
    more = new.rows(A, torch.arange(60, 120))
    assert more.min() >= 0
    assert more.max() < 80
    if options["kind"] == "frequency":
        owned = old.rows(A, torch.arange(1, int(old.deal[0, 1]) + 1))
        assert not torch.isin(more, owned).any(), "new values are of the tail"


def test_the_report_says_kind_rows_and_bytes():
    report = two((300, 30), rows=64, kind="per_field").table_report()
    assert (report.kind, report.tables, report.rows, report.width, report.bytes) == ("per_field", 1, 64, 4, 1024)
    assert report.fields["a"].size == 300
    assert report.fields["a"].first > 0.9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "per_field", "tables": 2}, '\'tables\' is for kind = "unified", and kind is "per_field"'),
        ({"combine": "add"}, "'combine' is for kind = \"quotient_remainder\""),
        ({"kind": "hashed", "head": 3}, "'head' is for kind = \"frequency\""),
        ({"kind": "other"}, "unified"),
    ],
)
def test_options_of_another_kind_are_refused(options, message):
    with pytest.raises(ValidationError, match=message):
        UnifiedEmbeddingConfig(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rows": 1, "kind": "per_field"}, "1 rows cannot be shared by 2 domains: at least 2 are needed"),
        ({"rows": 7, "kind": "quotient_remainder"}, "7 rows cannot be shared by 2 domains: at least 8 are needed"),
        ({"rows": 20, "kind": "frequency", "head": 10}, "the 10 values of the head take 20 of 20 rows and leave too few"),
        ({"rows": 20, "kind": "quotient_remainder", "combine": "concat", "lookups": 1}, "field 'a' has 1 lookups.*an even number"),
        ({"rows": 2, "tables": 3}, "2 rows are too few for 3 tables"),
    ],
)
def test_too_few_rows(options, message):
    with pytest.raises(UsageError, match=message):
        two((50, 20), **options)
