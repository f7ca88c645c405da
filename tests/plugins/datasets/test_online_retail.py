from __future__ import annotations

import datetime as dt
import hashlib
import io
import zipfile
from pathlib import Path
from xml.sax.saxutils import escape

import polars as pl
import pytest

from embedkit.errors import DataError
from embedkit_datasets.configs import NoOptions
from embedkit_datasets.download import Remote
from embedkit_datasets.online_retail import HEADER, WORKBOOK, OnlineRetail, transactions_of
from embedkit_datasets.xlsx import first_sheet, moment

ROWS: list[list[str | float | None]] = [
    [536365, "85123A", "WHITE HANGING HEART T-LIGHT HOLDER ", 6, 40513.351388888892, 2.55, 17850, "United Kingdom"],
    ["C536379", "D", "Discount", -1, 40513.395833333336, 27.5, 14527, "United Kingdom"],
    [536414, 22139, None, 56, 40513.494444444441, 0, None, "United Kingdom"],
]
NAMESPACE = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'


def workbook(rows: list[list[str | float | None]]) -> bytes:
    """An .xlsx with shared strings, as spreadsheet programs write it: empty cells left out."""
    strings: list[str] = []
    lines = []
    for number, row in enumerate(rows, start=1):
        cells = ""
        for letter, value in zip("ABCDEFGH", row, strict=True):
            if isinstance(value, str):
                strings.append(value)
                cells += f'<c r="{letter}{number}" t="s"><v>{len(strings) - 1}</v></c>'
            elif value is not None:
                cells += f'<c r="{letter}{number}"><v>{value!r}</v></c>'
        lines.append(f'<row r="{number}">{cells}</row>')
    shared = "".join(f'<si><t xml:space="preserve">{escape(s)}</t></si>' for s in strings)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as book:
        book.writestr("xl/sharedStrings.xml", f"<sst {NAMESPACE}>{shared}</sst>")
        book.writestr("xl/worksheets/sheet1.xml", f"<worksheet {NAMESPACE}><sheetData>{''.join(lines)}</sheetData></worksheet>")
    return buffer.getvalue()


def zipped(book: bytes, name: str = WORKBOOK) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, book)
    return buffer.getvalue()


def dataset(url: str, book: bytes) -> OnlineRetail:
    made = OnlineRetail(NoOptions(), context=None)
    made.archive = Remote(url)  # type: ignore[misc]
    made.checksums = {**OnlineRetail.checksums, WORKBOOK: "sha256:" + hashlib.sha256(book).hexdigest()}  # type: ignore[misc]
    return made


def test_download_gives_typed_transactions(serve, tmp_path: Path) -> None:
    book = workbook([HEADER, *ROWS])
    made = dataset(serve("retail.zip", zipped(book)), book).prepare(tmp_path)
    frame = pl.read_parquet(made.tables["transactions"][0])
    assert frame.rows() == [
        ("536365", "85123A", "WHITE HANGING HEART T-LIGHT HOLDER", 6, dt.datetime(2010, 12, 1, 8, 26), 2.55, 17850, "United Kingdom"),
        ("C536379", "D", "Discount", -1, dt.datetime(2010, 12, 1, 9, 30), 27.5, 14527, "United Kingdom"),
        ("536414", "22139", None, 56, dt.datetime(2010, 12, 1, 11, 52), 0.0, None, "United Kingdom"),
    ]
    assert (tmp_path / "run.toml").is_file()


def test_another_workbook_is_refused(serve, tmp_path: Path) -> None:
    book = workbook([HEADER, *ROWS])
    url = serve("retail.zip", zipped(workbook([HEADER])))
    with pytest.raises(DataError, match=r"Online Retail\.xlsx: its checksum is"):
        dataset(url, book).prepare(tmp_path / "out")
    url = serve("empty.zip", zipped(book, "Other.xlsx"))
    with pytest.raises(DataError, match=r"holds no 'Online Retail\.xlsx'"):
        dataset(url, book).prepare(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_wrong_header_or_cell_is_named() -> None:
    with pytest.raises(DataError, match=r"its columns are \['a'"):
        transactions_of(io.BytesIO(workbook([list("abcdefgh")])))
    bad = [*ROWS[0][:3], "many", *ROWS[0][4:]]
    with pytest.raises(DataError, match=r"row 3: could not convert string to float: 'many'"):
        transactions_of(io.BytesIO(workbook([HEADER, ROWS[0], bad])))
    with pytest.raises(DataError, match="not a readable .xlsx workbook"):
        transactions_of(io.BytesIO(b"text"))


def test_cells_of_every_kind() -> None:
    sheet = (
        '<row><c r="A1" t="inlineStr"><is><r><t>two </t></r><r><t>runs</t></r></is></c><c r="C1" t="e"><v>#N/A</v></c>'
        '<c t="str"><v>text</v></c><c r="AB1"><v>1</v></c></row><row></row>'
    )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as book:
        book.writestr("xl/worksheets/sheet1.xml", f"<worksheet {NAMESPACE}><sheetData>{sheet}</sheetData></worksheet>")
    assert list(first_sheet(buffer, "x")) == [["two runs", None, None, "text", *[None] * 23, "1"], []]


def test_serial_dates() -> None:
    assert moment("40513.351388888892") == dt.datetime(2010, 12, 1, 8, 26)
    assert moment("61") == dt.datetime(1900, 3, 1)


def test_downloaded_and_prepared_tables_are_alike(shared_datasets: Path, tmp_path: Path, rows_of_run_file) -> None:
    folder = shared_datasets / "online_retail"
    made = OnlineRetail(NoOptions(), context=None).prepare(tmp_path, prepared=folder)
    path, rows = made.tables["transactions"]
    prepared = pl.read_parquet(path)
    assert rows == prepared.height == 541_909
    assert rows_of_run_file(made.run_file) == {"items": 3_665, "sales": 387_841}
    part = prepared.head(2_000)
    day_zero = dt.datetime(1899, 12, 30)
    raw = [[*r[:4], (r[4] - day_zero) / dt.timedelta(days=1), *r[5:]] for r in part.iter_rows()]
    assert transactions_of(io.BytesIO(workbook([HEADER, *raw]))).equals(part)
