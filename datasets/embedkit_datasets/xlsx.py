"""Reading the first sheet of an .xlsx workbook row by row: cells as text. Just enough for tables; no formulas, no styles.

The format is ECMA-376 (Office Open XML), part 1, sections 18.3 (sheets) and 18.4 (shared strings).
"""

from __future__ import annotations

import datetime as dt
import zipfile
from collections.abc import Iterator
from typing import IO
from xml.etree import ElementTree

from embedkit.errors import DataError

_NS = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
_DAY_ZERO = dt.datetime(1899, 12, 30)  # serial dates count days from here (the 1900 system)


def first_sheet(file: IO[bytes], name: str) -> Iterator[list[str | None]]:
    """Yield the rows of ``xl/worksheets/sheet1.xml``; empty cells and cells that hold an error are None.

    Raises:
        DataError: the file is no workbook.
    """
    try:
        with zipfile.ZipFile(file) as book:
            shared = _shared_strings(book)
            with book.open("xl/worksheets/sheet1.xml") as sheet:
                yield from _rows(sheet, shared)
    except (zipfile.BadZipFile, KeyError, ElementTree.ParseError, IndexError) as error:
        raise DataError(f"{name}: not a readable .xlsx workbook ({error})") from error


def moment(serial: str) -> dt.datetime:
    """The moment of a serial date such as ``40513.351388888892``, to the nearest second."""
    return _DAY_ZERO + dt.timedelta(seconds=round(float(serial) * 86_400))


def _shared_strings(book: zipfile.ZipFile) -> list[str]:
    if "xl/sharedStrings.xml" not in book.namelist():
        return []
    strings = []
    with book.open("xl/sharedStrings.xml") as file:
        for _, element in ElementTree.iterparse(file):
            if element.tag == f"{_NS}si":
                strings.append(_text(element))
                element.clear()
    return strings


def _text(element: ElementTree.Element) -> str:
    """All runs of a string; phonetic hints (``rPh``) are not part of it."""
    runs = [element.find(f"{_NS}t"), *(run.find(f"{_NS}t") for run in element.findall(f"{_NS}r"))]
    return "".join(t.text or "" for t in runs if t is not None)


def _rows(sheet: IO[bytes], shared: list[str]) -> Iterator[list[str | None]]:
    for _, element in ElementTree.iterparse(sheet):
        if element.tag == f"{_NS}row":
            row: list[str | None] = []
            for cell in element:
                column = _column(cell.get("r", ""), len(row))
                row.extend([None] * (column - len(row)))
                row.append(_value(cell, shared))
            yield row
            element.clear()


def _column(reference: str, default: int) -> int:
    """Column number from 0 of a reference such as ``AB12``; ``default`` where a cell has none."""
    number = 0
    for letter in reference:
        if not letter.isalpha():
            break
        number = number * 26 + ord(letter) - ord("A") + 1
    return number - 1 if number else default


def _value(cell: ElementTree.Element, shared: list[str]) -> str | None:
    kind = cell.get("t", "n")
    if kind == "inlineStr":
        inline = cell.find(f"{_NS}is")
        return _text(inline) if inline is not None else None
    value = cell.findtext(f"{_NS}v")
    if value is None or kind == "e":
        return None
    return shared[int(value)] if kind == "s" else value
