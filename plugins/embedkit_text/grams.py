"""From words to hashes: words, pairs of words and character n-grams, vectorised over many rows."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from embedkit.data.hashing import Bytes, running, splitmix64, stretch
from embedkit_text.words import I64, Words

U64 = npt.NDArray[np.uint64]
_WORD, _PAIR = 1, 2
_NGRAM = 16
"""Tag of n-grams of length 0; length n has the tag 16 + n."""
_MARK = ord(" ")
"""Stands before and after each word while n-grams are cut; no word holds it."""
_LONGEST = 64
"""Characters of a word that n-grams are cut from: a blob without spaces must not drown the row."""


def hash_words(words: Words, rows: int, *, bigrams: bool, ngrams: list[int]) -> tuple[I64, I64]:
    """The tokens of each row: its words, then pairs of words that follow each other, then n-grams of growing length, repeats included.

    Returns:
        hashes int64 [T] in [0, 2^63), and offsets int64 [rows + 1].
    """
    word = stretch(running(words.data), words.start, words.stop, _WORD)
    groups: list[tuple[U64, I64]] = [(word, words.row)]
    if bigrams and len(word) > 1:
        together = np.flatnonzero(words.row[1:] == words.row[:-1])
        pair = splitmix64(word[together] * np.uint64(3) + word[together + 1] + np.uint64(_PAIR))
        groups.append((pair, words.row[together]))
    if ngrams and len(word):
        groups += _ngrams(words, sorted(ngrams))
    return _interleave(groups, rows)


def _ngrams(words: Words, lengths: list[int]) -> list[tuple[U64, I64]]:
    data, edges = _marked(words)
    sums = running(data)
    begins = np.append(np.flatnonzero((data & 0xC0) != 0x80), len(data))  # where characters begin
    first = np.searchsorted(begins, edges[:-1])
    size = np.minimum(np.searchsorted(begins, edges[1:]) - first, _LONGEST)
    groups = []
    for n in lengths:
        count = np.maximum(size - n + 1, 0)
        stop = np.cumsum(count)
        at = np.arange(stop[-1]) + np.repeat(first - (stop - count), count)
        groups.append((stretch(sums, begins[at], begins[at + n], _NGRAM + n), np.repeat(words.row, count)))
    return groups


def _marked(words: Words) -> tuple[Bytes, I64]:
    """The words side by side, each between two marks: bytes, and where each begins, int64 [W + 1]."""
    length = words.stop - words.start
    edges = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(length + 2)])
    data = np.full(edges[-1], _MARK, dtype=np.uint8)
    inner = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(length)])
    along = np.arange(inner[-1])
    data[along + np.repeat(edges[:-1] + 1 - inner[:-1], length)] = words.data[along + np.repeat(words.start - inner[:-1], length)]
    return data, edges


def _interleave(groups: list[tuple[U64, I64]], rows: int) -> tuple[I64, I64]:
    """Put groups that are each in row order together, so that each row holds its part of group 0, then of group 1, …"""
    counts = np.stack([np.bincount(row, minlength=rows) for _, row in groups])
    offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts.sum(0))])
    out = np.empty(offsets[-1], dtype=np.int64)
    place = offsets[:-1].copy()
    for (hashes, row), count in zip(groups, counts, strict=True):
        before = np.cumsum(count) - count
        out[np.arange(len(row)) + (place - before)[row]] = (hashes >> np.uint64(1)).astype(np.int64)
        place += count
    return out, offsets
