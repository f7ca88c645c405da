"""Field type ``text``: hashes of words and character n-grams, ragged int64 [T]."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from embedkit.data.codec import BadValue, Codec, CodecContext, FieldStats
from embedkit.data.columns import Column
from embedkit_text.fields import TextOptions
from embedkit_text.grams import hash_words
from embedkit_text.words import split_words

I64 = npt.NDArray[np.int64]
_PIECE = 4096
"""Rows hashed at a time: keeps what is worked on in the cache."""


class Text(Codec):
    """Text as 63-bit hashes: of its words, of pairs of words, and of character n-grams (see ``words.py`` and ``grams.py``).

    Nothing is out of vocabulary. What training gives is how many rows hold each hash, counted in ``idf_buckets`` buckets:
    ``stats.extras["idf"]`` is float32 [buckets], ``log((1 + rows) / (1 + rows with it)) + 1`` for the hash h at ``h % buckets`` and 0
    where training saw none (Spärck Jones 1972, smoothed). A null is missing; a text without a word is present and has length 0.
    """

    ragged = True

    config: TextOptions

    def __init__(self, config: TextOptions, *, context: CodecContext) -> None:
        super().__init__(config, context=context)
        self._rows = self._missing = self._longest = 0
        self._documents = np.zeros(config.idf_buckets, dtype=np.uint32)

    def observe(self, values: pa.Array) -> None:
        """See some train values."""
        self._rows += len(values)
        self._missing += values.null_count
        for start in range(0, len(values), _PIECE):
            hashes, offsets = self._hashes(values.slice(start, _PIECE), start)
            lengths = np.diff(offsets)
            self._longest = max(self._longest, int(lengths.max()))
            if len(self._documents):
                self._count(hashes, lengths)

    def _count(self, hashes: I64, lengths: I64) -> None:
        buckets = len(self._documents)
        keys = np.repeat(np.arange(len(lengths)) * buckets, lengths) + hashes % buckets
        keys.sort()
        first = np.ones(len(keys), dtype=np.bool_)
        first[1:] = keys[1:] != keys[:-1]
        self._documents += np.bincount(keys[first] % buckets, minlength=buckets).astype(np.uint32)

    def finish(self) -> None:
        """Nothing to settle: the counts are the state."""

    def encode(self, values: pa.Array) -> Column:
        """int64 [T] in [0, 2^63) and offsets [B + 1]."""
        parts = [self._hashes(values.slice(start, _PIECE), start) for start in range(0, len(values), _PIECE)]
        hashes = np.concatenate([part for part, _ in parts]) if parts else np.zeros(0, dtype=np.int64)
        lengths = [np.diff(offsets) for _, offsets in parts]
        offsets = (
            np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(np.concatenate(lengths))]) if parts else np.zeros(1, dtype=np.int64)
        )
        present = torch.from_numpy(np.array(values.is_valid())) if values.null_count else None
        return Column(torch.from_numpy(hashes), torch.from_numpy(offsets), present)

    def _hashes(self, values: pa.Array, row: int) -> tuple[I64, I64]:
        texts = self._texts(values, row)
        words = split_words(texts, self.config.max_tokens)
        return hash_words(words, len(texts), bigrams=self.config.bigrams, ngrams=self.config.ngrams)

    def _texts(self, values: pa.Array, row: int) -> pa.Array:
        kind, t = values.type, pa.types
        if t.is_dictionary(kind):
            return self._texts(values.cast(kind.value_type), row)
        if not (t.is_string(kind) or t.is_large_string(kind) or t.is_string_view(kind) or t.is_null(kind)):
            raise BadValue.of_type(self.context.spec, values, "text: cast the column, or choose another type", row=row)
        try:
            values.validate(full=True)
        except pa.ArrowInvalid as error:
            raise self._not_utf8(values, row) from error
        return values.cast(pa.large_string()).fill_null("")

    def _not_utf8(self, values: pa.Array, row: int) -> BadValue:
        raw = values.cast(pa.large_binary()).to_pylist()
        at = next(i for i, value in enumerate(raw) if value is not None and not _decodes(value))
        return BadValue(self.context.spec, row + at, f"bytes that are not UTF-8 ({raw[at][:16]!r})", "text in UTF-8: write the file again")

    @property
    def stats(self) -> FieldStats:
        """``extras`` holds ``idf`` and ``idf_buckets``, unless the option turned counting off."""
        extras: dict[str, Any] = {}
        if len(self._documents):
            extras = {"idf": torch.from_numpy(self._idf()), "idf_buckets": len(self._documents)}
        return FieldStats(self._rows, self._missing, max_length=self._longest, extras=extras)

    def _idf(self) -> npt.NDArray[np.float32]:
        rows = self._rows - self._missing
        idf = np.log((1 + rows) / (1.0 + self._documents)) + 1
        return np.where(self._documents > 0, idf, 0.0).astype(np.float32)

    def state(self) -> dict[str, Any]:
        """Counts; the document frequencies as base64 of little-endian uint32."""
        documents = base64.b64encode(self._documents.astype("<u4").tobytes()).decode()
        return {"rows": self._rows, "missing": self._missing, "longest": self._longest, "documents": documents}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take what ``state`` returned."""
        documents = np.frombuffer(base64.b64decode(state["documents"]), dtype="<u4").astype(np.uint32)
        if len(documents) != self.config.idf_buckets:
            raise ValueError(f"{len(documents)} document frequencies, the option idf_buckets says {self.config.idf_buckets}")
        self._rows, self._missing = int(state["rows"]), int(state["missing"])
        self._longest, self._documents = int(state["longest"]), documents


def _decodes(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True
