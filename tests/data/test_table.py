from __future__ import annotations

import gc
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embedkit.config.model import TableConfig
from embedkit.data import csvfile
from embedkit.data.table import open_table
from embedkit.data.units import UNIT_ROWS, cut
from embedkit.errors import DataError, UsageError


def write(path: Path, columns: dict[str, object], row_group_size: int | None = None) -> Path:
    pq.write_table(pa.table(columns), path, row_group_size=row_group_size)
    return path


def items(tmp_path: Path, **config: object):
    return open_table(TableConfig(**{"uri": "items.parquet", **config}), "items", tmp_path)


def read(table, column: str) -> list[object]:
    return [x for _, rows in table.scan([column]) for x in rows.column(0).to_pylist()]


def test_units_cover_the_rows_and_never_split_two_row_groups():
    for groups in ([], [10], [10, 20], [UNIT_ROWS, 1], [UNIT_ROWS + 1, 5], [3, 2 * UNIT_ROWS + 7, 3], [1000] * 200):
        ranges = list(cut(groups))
        assert [a for a, _ in ranges] == [0, *[b for _, b in ranges[:-1]]][: len(ranges)]
        assert sum(b - a for a, b in ranges) == sum(groups)
        assert all(0 < b - a <= UNIT_ROWS for a, b in ranges)
        edges = set(np.cumsum([0, *groups]).tolist())
        for a, b in ranges:
            whole = a in edges and b in edges
            assert whole or not [e for e in edges if a < e < b]


@pytest.mark.parametrize("group_size", [7_000, 65_536, 150_000])
def test_scan_reads_every_row_once_whatever_the_row_groups(tmp_path, group_size):
    n = 150_000
    write(tmp_path / "items.parquet", {"a": np.arange(n), "b": [f"x{i}" for i in range(n)]}, group_size)
    table = items(tmp_path)
    assert table.rows == n
    rows = [(row0, part) for row0, part in table.scan(["a"])]
    assert [r for r, _ in rows] == [u.row0 for u in table.units]
    assert np.concatenate([p["a"].to_numpy() for _, p in rows]).tolist() == list(range(n))
    order = list(table.units)[::-1] + list(table.units)
    for unit, (row0, part) in zip(order, table.scan(["b", "a"], order), strict=True):
        assert row0 == unit.row0
        assert part["a"].to_pylist() == list(range(unit.row0, unit.row0 + unit.rows))
        assert part.column_names == ["b", "a"]


def test_several_files_are_read_in_name_order_and_cast_to_the_first_files_types(tmp_path):
    write(tmp_path / "b.parquet", {"id": pa.array([3, 4], pa.int32()), "extra": [1, 2]})
    write(tmp_path / "a.parquet", {"id": pa.array([1, 2], pa.int64())})
    table = open_table(TableConfig(uri="*.parquet", key="id"), "items", tmp_path)
    assert read(table, "id") == [1, 2, 3, 4]
    assert table.place(2) == "row 0 of b.parquet"
    write(tmp_path / "b.parquet", {"other": [3, 4]})
    with pytest.raises(DataError, match=r"b\.parquet has no column 'id'"):
        open_table(TableConfig(uri="*.parquet"), "items", tmp_path)


def test_where_rename_select_and_dedupe(tmp_path):
    write(tmp_path / "items.parquet", {"i": [1, 1, 2, 3, 3], "q": [5, 6, 0, 2, 1], "t": [9, 8, 1, 2, 2]})
    table = items(tmp_path, rename={"q": "quantity"}, where="quantity > 0", dedupe=["i"], time="t", select=["i", "quantity", "t"])
    assert read(table, "i") == [1, 3]
    assert read(table, "quantity") == [6, 2]
    assert table.dropped == 3
    assert [table.place(i) for i in range(2)] == ["row 1 of items.parquet", "row 3 of items.parquet"]
    with pytest.raises(UsageError, match=r"tables.items.where: 'quantitee > 0' cannot be evaluated"):
        items(tmp_path, where="quantitee > 0")
    with pytest.raises(UsageError, match="cannot be evaluated"):
        items(tmp_path, where="q >")
    with pytest.raises(DataError, match="none of the 5 rows"):
        items(tmp_path, where="q > 100")


def test_group_derives_one_row_per_key(tmp_path):
    write(
        tmp_path / "items.parquet",
        {
            "k": ["b", "a", None, "b", "b", "a"],
            "d": ["x", None, "q", "y", "y", "z"],
            "p": [1.0, 4.0, 9.0, 3.0, 100.0, 2.0],
            "q": [1, 2, 3, 4, 5, 6],
        },
    )
    table = items(tmp_path, where="q < 6 OR q > 0", group={"by": "k", "d": "mode", "p": "median", "q": "last"})
    assert table.key == "k"
    assert read(table, "k") == ["b", "a"]
    assert read(table, "d") == ["y", "z"]
    assert read(table, "p") == [3.0, 3.0]
    assert read(table, "q") == [5, 6]
    assert table.dropped == 1


def test_groupings_and_selections_that_cannot_be(tmp_path):
    write(tmp_path / "items.parquet", {"k": ["b", "a"], "d": ["x", "y"]})
    with pytest.raises(UsageError, match=r"tables\.items\.group: its columns cannot be derived") as error:
        items(tmp_path, group={"by": "k", "d": "median"})
    sentence(error)
    with pytest.raises(UsageError, match="the key is 'd' but rows are grouped by 'k'"):
        items(tmp_path, group={"by": "k", "d": "first"}, key="d")
    with pytest.raises(UsageError, match=r"tables\.items\.select leaves out 'k'"):
        items(tmp_path, select=["d"], key="k")
    write(tmp_path / "items.parquet", {"k": pa.nulls(3, pa.string()), "d": [1, 2, 3]})
    with pytest.raises(DataError, match="column 'k' to group by has no value in any row"):
        items(tmp_path, group={"by": "k", "d": "first"})


def test_a_full_temporary_folder_is_told(tmp_path, monkeypatch):
    (tmp_path / "items.csv").write_text("a,b\n1,2\n")

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(csvfile, "to_parquet", full)
    with pytest.raises(DataError, match="cannot be written to the temporary folder .*: No space left on device; make room") as error:
        items(tmp_path, uri="items.csv")
    sentence(error)


def test_temporary_files_go_with_the_table(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "items.csv").write_text("k,b\n1,2\n1,3\n")
    table = items(tmp_path, uri="items.csv", group={"by": "k", "b": "sum"})
    assert read(table, "b") == [5]
    assert list(tmp_path.glob("embedkit-*"))
    del table
    gc.collect()
    assert not list(tmp_path.glob("embedkit-*"))


def test_ids_and_positions(tmp_path):
    write(tmp_path / "items.parquet", {"k": ["a", "b", "c"], "n": pa.array([7, 8, 9], pa.int32())})
    table = items(tmp_path, key="k")
    assert table.positions(pa.array(["c", "zz", None, "a"])).tolist() == [2, -1, -1, 0]
    assert table.positions(pa.array(["c"]).dictionary_encode()).tolist() == [2]
    numbers = items(tmp_path, key="n")
    assert numbers.positions(pa.array([9, 1], pa.int64())).tolist() == [2, -1]
    assert numbers.positions(pa.array(["8"])).tolist() == [1]
    with pytest.raises(UsageError, match=r"tables\.items\.key"):
        items(tmp_path).positions(pa.array(["a"]))


def test_fingerprint_follows_files_and_reading(tmp_path):
    write(tmp_path / "items.parquet", {"k": [1, 2]})
    first = items(tmp_path).fingerprint
    assert items(tmp_path).fingerprint == first
    assert items(tmp_path, where="k > 1").fingerprint != first
    write(tmp_path / "items.parquet", {"k": [1, 3]})
    assert items(tmp_path).fingerprint != first


def sentence(error: pytest.ExceptionInfo[BaseException]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


def test_missing_files(tmp_path):
    with pytest.raises(DataError) as error:
        items(tmp_path)
    assert sentence(error) == f"table 'items': there is no file 'items.parquet' (looked for {tmp_path / 'items.parquet'})"
    with pytest.raises(DataError, match=r"no file matches 'x/\*\.parquet'"):
        items(tmp_path, uri="x/*.parquet")
    with pytest.raises(DataError, match="is a folder"):
        items(tmp_path, uri=".")
    (tmp_path / "items.xlsx").write_bytes(b"x")
    with pytest.raises(DataError, match="neither Parquet nor CSV"):
        items(tmp_path, uri="items.xlsx")


def test_empty_table(tmp_path):
    write(tmp_path / "items.parquet", {"k": pa.array([], pa.int64())})
    with pytest.raises(DataError) as error:
        items(tmp_path)
    assert sentence(error) == "table 'items': items.parquet holds no rows; give files with rows"


@pytest.mark.parametrize("cut_at", [0, 3, 100, -1, -100])
def test_truncated_parquet(tmp_path, cut_at):
    path = write(tmp_path / "items.parquet", {"k": list(range(1000))})
    path.write_bytes(path.read_bytes()[:cut_at])
    with pytest.raises(DataError, match=r"items\.parquet cannot be read as Parquet, it may be truncated or damaged: ") as error:
        items(tmp_path)
    sentence(error)


def test_damaged_pages_are_told_while_scanning(tmp_path):
    path = write(tmp_path / "items.parquet", {"k": np.random.default_rng(0).integers(0, 1 << 60, 50_000)})
    data = bytearray(path.read_bytes())
    data[4:60] = bytes(56)
    path.write_bytes(data)
    with pytest.raises(DataError, match="truncated or damaged") as error:
        list(items(tmp_path).scan())
    sentence(error)


def test_wrong_column(tmp_path):
    write(tmp_path / "items.parquet", {"title": ["a"], "price": [1.0]})
    table = items(tmp_path)
    with pytest.raises(DataError) as error:
        table.require(["titel"], " for field 'name'")
    assert (
        sentence(error) == "table 'items': items.parquet has no column 'titel' for field 'name'; did you mean 'title'? It has: title, price"
    )
    with pytest.raises(DataError, match="has no column 'id'"):
        items(tmp_path, key="id")
    with pytest.raises(DataError, match="has no column 'x' to rename"):
        items(tmp_path, rename={"x": "y"})


def test_keys_with_duplicates_and_nulls(tmp_path):
    write(tmp_path / "items.parquet", {"k": ["a", "b", "a"], "n": [1, None, 3]})
    with pytest.raises(DataError) as error:
        items(tmp_path, key="k")
    assert sentence(error).startswith(
        "table 'items': key column 'k' holds 'a' twice, in row 0 of items.parquet and row 2 of items.parquet; keys must be unique"
    )
    with pytest.raises(DataError) as error:
        items(tmp_path, key="n")
    assert sentence(error) == "table 'items': key column 'n' has no value in row 1 of items.parquet; every row needs one"


def test_infinity(tmp_path):
    lists = [[1.0], None, [2.0, -math.inf], []]
    write(tmp_path / "items.parquet", {"p": [1.0, math.nan, math.inf, None], "l": lists, "h": pa.array([1, 2, 3, 4], pa.float16())})
    table = items(tmp_path)
    with pytest.raises(DataError) as error:
        list(table.scan(["p"]))
    assert sentence(error).startswith("table 'items': column 'p' holds inf in row 2 of items.parquet; numbers must be finite")
    with pytest.raises(DataError, match="column 'l' holds -inf in row 2 of"):
        list(table.scan(["l"]))
    table = items(tmp_path, nonfinite="missing")
    (values,) = [rows for _, rows in table.scan(["p", "l"])]
    assert values["p"].to_pylist()[2:] == [None, None]
    assert values["l"].to_pylist() == [[1.0], None, [2.0, None], []]


def test_csv(tmp_path):
    (tmp_path / "items.csv").write_text('id,price,name,day\n1,2,"a, b",2020-01-02\n2,,,2020-01-03\n3,2.5,"x\ny",2020-01-04\n')
    table = items(tmp_path, uri="items.csv", key="id")
    assert table.rows == 3
    assert read(table, "name") == ["a, b", None, "x\ny"]
    assert read(table, "price") == [2.0, None, 2.5]
    assert table.place(1) == "row 1 of items.csv"
    (tmp_path / "items.tsv").write_text("id\tname\n1\ta\n")
    assert read(items(tmp_path, uri="items.tsv"), "name") == ["a"]


def test_csv_types_widen_when_a_late_value_does_not_fit(tmp_path, monkeypatch):
    monkeypatch.setattr(csvfile, "_BLOCK", 1000)
    lines = ["id,a,b,c"] + [f"{i},{i},," for i in range(1_000)] + ["x7,1.5,late,3"]
    (tmp_path / "items.csv").write_text("\n".join(lines))
    table = items(tmp_path, uri="items.csv")
    kinds = {name: str(table.schema.field(name).type) for name in table.columns}
    assert kinds == {"id": "string", "a": "double", "b": "string", "c": "int64"}
    assert table.rows == 1_001
    ((_, rows),) = table.scan(units=table.units[-1:])
    last = rows.to_pylist()[-1]
    assert last == {"id": "x7", "a": 1.5, "b": "late", "c": 3}


def test_bad_csv(tmp_path):
    path = tmp_path / "items.csv"
    path.write_text("a,b\n1,2\n1,2,3\n")
    with pytest.raises(DataError) as error:
        items(tmp_path, uri="items.csv")
    assert "items.csv line 3 has 3 fields, its header 2: '1,2,3'" in sentence(error)
    path.write_bytes(b"a,b\n1,caf\xe9\n")
    with pytest.raises(DataError, match="column 'b' holds bytes that are not UTF-8"):
        items(tmp_path, uri="items.csv")
    path.write_text("")
    with pytest.raises(DataError, match=r"items\.csv is empty"):
        items(tmp_path, uri="items.csv")
    path.write_text("a,a\n1,2\n")
    with pytest.raises(DataError, match="more than one column called 'a'"):
        items(tmp_path, uri="items.csv")
    path.write_text("a,b\n")
    with pytest.raises(DataError, match="holds no rows"):
        items(tmp_path, uri="items.csv")


def test_text_that_a_file_remembers_as_views_is_read_as_text(tmp_path):
    """Polars hands its text to Arrow as views, which Arrow can neither filter nor take."""
    frame = pa.table({"id": pa.array(["a", "b", "c"], pa.string_view()), "n": [1, 2, 3]})
    pq.write_table(frame, tmp_path / "views.parquet")
    table = open_table(TableConfig(uri="views.parquet", key="id", where="n <> 2"), "views", tmp_path)
    assert table.schema.field("id").type == pa.large_string()
    assert table.column("id").to_pylist() == ["a", "c"]
    assert table.column("id").filter(pa.array([True, False])).to_pylist() == ["a"]
