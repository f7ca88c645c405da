"""Field type ``category``: codes of the domain's vocabulary, int64 [B]."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from embedkit.data.codec import Codec, CodecContext, FieldStats
from embedkit.data.columns import Column
from embedkit.data.kinds import missing_mask
from embedkit_tabular.fields import CategoryOptions


class Category(Codec):
    """One of a set of values. Null and NaN are missing; a value that training did not see often enough gets the unknown code 0."""

    uses_vocabulary = True

    config: CategoryOptions

    def __init__(self, config: CategoryOptions, *, context: CodecContext) -> None:
        super().__init__(config, context=context)
        self._rows = self._missing = self._unknown = 0

    def observe(self, values: pa.Array) -> None:
        """See some train values; the vocabulary counts them."""
        self._rows += len(values)
        self._missing += int(missing_mask(values).sum())

    def finish(self) -> None:
        """Nothing to settle: the vocabulary is the state."""

    def encode(self, values: pa.Array) -> Column:
        """int64 [B]; missing rows hold 0 and are not present."""
        missing = missing_mask(values)
        codes = self.vocabulary.encode(values)
        self._unknown += int(np.count_nonzero(codes == 0)) - int(np.count_nonzero(missing))
        present = torch.from_numpy(~missing) if missing.any() else None
        return Column(torch.from_numpy(codes), None, present)

    @property
    def stats(self) -> FieldStats:
        """``counts`` are those of the domain, whose codes they are."""
        counts = torch.from_numpy(self.vocabulary.counts)
        return FieldStats(self._rows, self._missing, size=self.vocabulary.size, counts=counts)

    @property
    def unknown(self) -> int:
        """Values that ``encode`` mapped to the unknown code so far."""
        return self._unknown

    def state(self) -> dict[str, Any]:
        """Counts; the vocabulary is saved once a domain."""
        return {"rows": self._rows, "missing": self._missing}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take what ``state`` returned."""
        self._rows, self._missing = int(state["rows"]), int(state["missing"])
