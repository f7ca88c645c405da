from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest

import embedkit_sequence
import embedkit_tabular
from embedkit.config.plan import ModelSpec, Part
from embedkit.data.codecs import Codecs
from embedkit.errors import BundleError, DataError, UsageError
from embedkit.schema import FieldSpec, Schema
from embedkit.testing import host_with

REGISTRY = host_with({"tabular": embedkit_tabular, "sequence": embedkit_sequence}).registry


def model_of(**fields):
    """name → (type, domain or None, options)."""
    specs, parts = {}, {}
    for name, (kind, domain, options) in fields.items():
        column = None if kind == "sequence" else name
        specs[name] = FieldSpec(name, kind, "items", column, domain or name, options=options)
        entry = REGISTRY.entry("field_type", kind)
        parts[name] = Part(entry, entry.parse(options, where=f"fields.{name}"))
    return ModelSpec(Schema(specs, {}, {}), parts, 8, (), {}, {})


SHOP = {
    "item": ("category", "item", {}),
    "history": ("sequence", "item", {"max_length": 2}),
    "brand": ("category", None, {"min_count": 2}),
    "price": ("number", None, {"scale": "log"}),
    "tags": ("categories", None, {}),
    "added": ("timestamp", None, {}),
}
TABLE = pa.table(
    {
        "item": pa.array([7, 8, 7, 9]),
        "brand": ["a", "a", None, "b"],
        "price": [1.0, None, 100.0, 3.0],
        "tags": [["x"], [], None, ["x", None, "y"]],
        "added": pa.array([0, 86400, None, 1], pa.timestamp("s")),
    }
)


def source_of(table, size=3):
    def source(spec):
        if spec.column is not None:
            for start in range(0, table.num_rows, size):
                yield table[spec.column].combine_chunks().slice(start, size)

    return source


@pytest.fixture(name="codecs")
def fitted():
    codecs = Codecs.create(model_of(**SHOP))
    codecs.fit(source_of(TABLE))
    return codecs


def test_fields_of_a_domain_share_codes(codecs):
    frame = TABLE.append_column("history", pa.array([[7, 8, 9], [], None, [5]]))
    batch = codecs.encode(frame, ["item", "history", "brand"], path="f")
    assert batch.columns["item"].values.tolist() == [1, 2, 1, 3]
    assert batch.columns["history"].values.tolist() == [2, 3, 0]
    assert batch.columns["history"].offsets.tolist() == [0, 2, 2, 2, 3]
    assert batch.columns["history"].present.tolist() == [True, True, False, True]
    assert batch.columns["brand"].values[[0, 1, 3]].tolist() == [1, 1, 0]
    stats = codecs.stats
    assert stats["item"].size == stats["history"].size == 4
    assert stats["history"].rows == 0
    assert stats["item"].counts.tolist() == [0, 2, 1, 1]
    assert stats["brand"].counts.tolist() == [1, 2]


def test_saved_codecs_encode_alike(codecs, tmp_path):
    codecs.save(tmp_path / "codecs")
    again = Codecs.load(tmp_path / "codecs", model_of(**SHOP))
    names = [n for n in SHOP if n != "history"]
    one, two = codecs.encode(TABLE, names, path="f"), again.encode(TABLE, names, path="f")
    for name in names:
        for part in ("values", "offsets", "present"):
            a, b = getattr(one.columns[name], part), getattr(two.columns[name], part)
            assert (a is None) == (b is None)
            assert a is None or a.equal(b)
    assert again.fingerprint(SHOP) == codecs.fingerprint(SHOP)
    for name, stats in codecs.stats.items():
        assert again.stats[name].rows == stats.rows
        assert (stats.quantiles is None) or stats.quantiles.equal(again.stats[name].quantiles)


def test_fit_does_not_depend_on_how_the_stream_is_cut(codecs):
    other = Codecs.create(model_of(**SHOP))
    other.fit(source_of(TABLE, size=1))
    assert other.fingerprint(SHOP) == codecs.fingerprint(SHOP)


def test_fingerprint_sees_data_options_and_fields(codecs):
    base = codecs.fingerprint(["brand"])
    other = Codecs.create(model_of(**SHOP | {"brand": ("category", None, {"min_count": 1})}))
    other.fit(source_of(TABLE))
    assert other.fingerprint(["brand"]) != base
    assert codecs.fingerprint(["price"]) != base
    assert other.fingerprint(["price"]) == codecs.fingerprint(["price"])
    changed = Codecs.create(model_of(**SHOP))
    changed.fit(source_of(TABLE.set_column(2, "price", pa.array([1.0, 2.0, 3.0, 4.0]))))
    assert changed.fingerprint(["price"]) != codecs.fingerprint(["price"])


def test_warm_start_keeps_codes_and_statistics(codecs):
    more = pa.table(
        {
            "item": [11, 9, 11],
            "brand": ["z", "z", "a"],
            "price": [1e6, 1e6, 1e6],
            "tags": [["q"], ["q"], ["x"]],
            "added": pa.array([9, 9, 9], pa.timestamp("s")),
        }
    )
    warm = Codecs.create(model_of(**SHOP | {"stock": ("number", None, {})}))
    warm.fit(source_of(more.append_column("stock", pa.array([1, 2, 3]))), start=codecs)
    assert warm.vocabularies["item"].values.to_pylist() == [7, 8, 9, 11]
    assert warm.vocabularies["brand"].values.to_pylist() == ["a", "z"]
    assert warm["price"].state() == codecs["price"].state()
    assert warm.stats["stock"].rows == 3
    old = codecs.encode(TABLE, ["item"], path="f").columns["item"].values
    assert warm.encode(TABLE, ["item"], path="f").columns["item"].values.equal(old)
    relaid = Codecs.create(model_of(**SHOP | {"price": ("number", None, {"scale": "linear"})}))
    relaid.fit(source_of(more), start=codecs)
    assert relaid.stats["price"].rows == 3  # other options: fitted anew


def test_warm_start_with_values_of_another_type(codecs):
    warm = Codecs.create(model_of(item=SHOP["item"]))
    with pytest.raises(DataError, match="domain 'item' cannot grow: found text such as 'x', wanted integers as in training"):
        warm.fit(source_of(pa.table({"item": ["x"]})), start=codecs)


def test_errors_name_file_column_and_row(codecs):
    with pytest.raises(DataError, match=r"^q\.csv: column 'price' of field 'price' is missing; there are: item, brand$"):
        codecs.encode(TABLE.select(["item", "brand"]), ["price"], path="q.csv")
    bad = pa.table({"price": pa.array([1.0, float("-inf")])})
    with pytest.raises(DataError, match=r"^q\.csv: column 'price', row 11: found -inf, wanted a finite number"):
        codecs.encode(bad, ["price"], path="q.csv", first_row=10)
    with pytest.raises(DataError, match=r"^q\.csv: column 'item': found text such as 'x', wanted integers as in training"):
        codecs.encode(pa.table({"item": ["x"]}), ["item"], path="q.csv")
    fresh = Codecs.create(model_of(price=("number", None, {})))
    prices = pa.table({"price": [1.0] * 4 + [float("inf")]})
    with pytest.raises(DataError, match=r"^items: column 'price', row 4: found inf"):
        fresh.fit(source_of(prices, size=3))


def test_missing_report_counts(codecs):
    assert str(codecs.missing_report()["price"]) == "1 of 4 missing (25.0%)"
    assert str(codecs.missing_report()["item"]) == "complete"
    codecs.encode(pa.table({"item": [99, None, 7]}), ["item"], path="f")
    assert codecs.missing_report()["item"].unknown == 1
    assert codecs.missing_report()["tags"].dropped == 1


def test_a_domain_has_one_vocabulary_size():
    fields = {"a": ("category", "d", {"min_count": 2}), "b": ("category", "d", {"min_count": 3})}
    table = pa.table({"a": [1, 1, 1], "b": [1, 1, 2]})
    with pytest.raises(UsageError, match="domain 'd' share one vocabulary but ask for different min_count: a 2, b 3"):
        Codecs.create(model_of(**fields)).fit(source_of(table))
    agreed = Codecs.create(model_of(**fields | {"b": ("category", "d", {})}))
    agreed.fit(source_of(table))
    assert agreed.vocabularies["d"].values.to_pylist() == [1]


def test_damaged_folders_are_refused(codecs, tmp_path):
    folder = tmp_path / "codecs"
    with pytest.raises(BundleError, match="cannot be read"):
        Codecs.load(folder, model_of(**SHOP))
    codecs.save(folder)
    with pytest.raises(BundleError, match="lacks field 'size'"):
        Codecs.load(folder, model_of(**SHOP | {"size": ("number", None, {})}))
    content = json.loads((folder / "codecs.json").read_text())
    del content["fields"]["price"]["state"]["mean"]
    (folder / "codecs.json").write_text(json.dumps(content))
    with pytest.raises(BundleError, match="the state of field 'price' is damaged"):
        Codecs.load(folder, model_of(**SHOP))
    (folder / "codecs.json").write_text('{"format": 99, "vocabularies": {}, "fields": {}}')
    with pytest.raises(BundleError, match="has format 99"):
        Codecs.load(folder, model_of(**SHOP))


def test_chunked_and_empty_columns(codecs):
    chunked = pa.table({"item": pa.chunked_array([[7], [], [8, 9]])})
    assert codecs.encode(chunked, ["item"], path="f").columns["item"].values.tolist() == [1, 2, 3]
    empty = TABLE.slice(0, 0)
    names = [n for n in SHOP if n != "history"]
    batch = codecs.encode(empty, names, path="f")
    assert all(len(batch.columns[n]) == 0 for n in names)
    assert np.prod(batch.columns["added"].values.shape) == 0
