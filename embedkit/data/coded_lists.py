"""CodedLists: what field types whose values are lists of a domain's values have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from embedkit.config.fields import FieldOptions
from embedkit.data.codec import Codec, CodecContext, FieldStats
from embedkit.data.columns import Column
from embedkit.data.lists import Lists


class CodedLists(Codec):
    """Lists of values of the domain's vocabulary → codes, ragged int64 [T].

    An empty list is present and has length 0; a row without a list is not present. Missing members are left out and counted as
    ``dropped``; a member that training did not see often enough stays, as the unknown code 0.
    """

    ragged = True
    uses_vocabulary = True

    def __init__(self, config: FieldOptions, *, context: CodecContext) -> None:
        super().__init__(config, context=context)
        self._rows = self._missing = self._longest = self._unknown = self._dropped = 0

    @abstractmethod
    def lists(self, values: pa.Array) -> Lists:
        """The lists to encode.

        Raises:
            BadValue: the values are no lists.
        """

    def vocabulary_values(self, values: pa.Array) -> pa.Array:
        """The members."""
        return self.lists(values).members

    def observe(self, values: pa.Array) -> None:
        """See some train values; the vocabulary counts their members."""
        lists = self.lists(values)
        self._rows += len(values)
        self._missing += int(np.count_nonzero(~lists.present))
        self._dropped += lists.dropped
        if len(values):
            self._longest = max(self._longest, int(np.diff(lists.offsets).max()))

    def finish(self) -> None:
        """Nothing to settle: the vocabulary is the state."""

    def encode(self, values: pa.Array) -> Column:
        """int64 [T] and offsets [B + 1]."""
        lists = self.lists(values)
        codes = self.vocabulary.encode(lists.members)
        self._dropped += lists.dropped
        self._unknown += int(np.count_nonzero(codes == 0))
        present = None if lists.present.all() else torch.from_numpy(lists.present.copy())
        return Column(torch.from_numpy(codes), torch.from_numpy(lists.offsets), present)

    @property
    def stats(self) -> FieldStats:
        """``counts`` are those of the domain, whose codes they are."""
        counts = torch.from_numpy(self.vocabulary.counts)
        return FieldStats(self._rows, self._missing, size=self.vocabulary.size, counts=counts, max_length=self.max_length)

    @property
    def max_length(self) -> int:
        """Most values a row: what training saw, unless the type bounds it."""
        return self._longest

    @property
    def unknown(self) -> int:
        """Members that ``encode`` mapped to the unknown code so far."""
        return self._unknown

    @property
    def dropped(self) -> int:
        """Missing members that were left out so far."""
        return self._dropped

    def state(self) -> dict[str, Any]:
        """Counts; the vocabulary is saved once a domain."""
        return {"rows": self._rows, "missing": self._missing, "longest": self._longest}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take what ``state`` returned."""
        self._rows, self._missing = int(state["rows"]), int(state["missing"])
        self._longest = int(state["longest"])
