"""From strings to words: folding and cutting, vectorised over the concatenated bytes of many rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from embedkit.data.hashing import Bytes, string_buffers

I64 = npt.NDArray[np.int64]

_OTHER, _LOWER, _UPPER, _DIGIT = 0, 1, 2, 3


def _classes() -> npt.NDArray[np.uint8]:
    """Class of each byte. Bytes beyond ASCII stand in folded words only, so they are letters."""
    table = np.zeros(256, dtype=np.uint8)
    table[ord("a") : ord("z") + 1] = _LOWER
    table[128:] = _LOWER
    table[ord("A") : ord("Z") + 1] = _UPPER
    table[ord("0") : ord("9") + 1] = _DIGIT
    return table


def _lowered() -> Bytes:
    table = np.arange(256, dtype=np.uint8)
    table[ord("A") : ord("Z") + 1] += 32
    return table


_CLASS, _LOWERED = _classes(), _lowered()


@dataclass(frozen=True, eq=False)
class Words:
    """The words of n rows: word w of row r are the bytes ``data[start[w]:stop[w]]``, lower case, ``row[w] == r``, in order."""

    data: Bytes
    start: I64
    stop: I64
    row: I64


def fold(texts: pa.Array) -> pa.Array:
    """Make texts comparable: compatibility forms unified (NFKC), accents taken off, letters beyond ASCII in lower case.

    Texts of ASCII only, most of them as a rule, pass as they are; their case is still needed to find words.
    """
    odd = pc.invert(pc.string_is_ascii(texts)).fill_null(False)
    if not pc.any(odd).as_py():
        return texts
    folded = pc.utf8_normalize(texts.filter(odd), form="NFKD")
    folded = pc.replace_substring_regex(folded, "[\\x{0300}-\\x{036f}]+", "")
    folded = pc.utf8_normalize(folded, form="NFKC")
    folded = pc.replace_substring_regex(folded, r"(\p{Ll}|\p{Nd})(\p{Lu})", r"\1 \2")
    folded = pc.utf8_lower(folded)
    return pc.replace_with_mask(texts, odd, pc.replace_substring_regex(folded, r"[^\p{L}\p{M}\p{N}]+", " "))


def split_words(texts: pa.Array, max_words: int) -> Words:
    """The first ``max_words`` words of each text (large_string, no nulls).

    Words end where something else than a letter or digit stands, and inside identifiers: ``parseDate`` is parse, date; ``HTTPServer``
    http, server; ``datetime.strptime`` datetime, strptime; ``utf_8`` utf, 8; ``float64`` float, 64.
    """
    offsets, data = string_buffers(fold(texts))
    n = len(offsets) - 1
    if len(data) == 0:
        none = np.zeros(0, dtype=np.int64)
        return Words(data, none, none, none)
    kind = _CLASS[data]
    inside = kind != _OTHER
    edges = offsets[:-1][offsets[:-1] < offsets[1:]]
    begins = inside.copy()
    begins[1:] &= _cut(kind, edges)
    begins[edges] = inside[edges]
    ends = inside.copy()
    ends[:-1] = inside[:-1] & (begins[1:] | ~inside[1:])
    last = offsets[1:][offsets[:-1] < offsets[1:]] - 1
    ends[last] = inside[last]
    start, stop = np.flatnonzero(begins), np.flatnonzero(ends) + 1
    row = np.searchsorted(offsets, start, side="right") - 1
    first = np.searchsorted(row, np.arange(n))
    kept = np.arange(len(start)) - first[row] < max_words
    return Words(_LOWERED[data], start[kept], stop[kept], row[kept])


def _cut(kind: npt.NDArray[np.uint8], edges: I64) -> npt.NDArray[np.bool_]:
    """bool [T - 1]: whether a word ends between byte i and byte i + 1, both taken to be in one row. Rows begin at ``edges``."""
    before, after = kind[:-1], kind[1:]
    cut: npt.NDArray[np.bool_] = (before == _OTHER) | ((before == _DIGIT) != (after == _DIGIT)) | ((before == _LOWER) & (after == _UPPER))
    # an upper-case letter before a lower-case one of its row opens a word: the S of HTTPServer
    lower = kind == _LOWER
    lower[edges] = False
    cut[:-1] |= (before[:-1] == _UPPER) & (after[:-1] == _UPPER) & lower[2:]
    return cut
