"""Field type ``category``: codes of the domain's vocabulary, int64 [B]; or, with ``role = "weight"``, what each value weighs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from embedkit.data.codec import BadValue, Codec, CodecContext, FieldStats
from embedkit.data.columns import Column
from embedkit.data.kinds import missing_mask
from embedkit.errors import UsageError
from embedkit_tabular.fields import CategoryOptions
from embedkit_tabular.number import weights


class Category(Codec):
    """One of a set of values. Null and NaN are missing; a value that training did not see often enough gets the unknown code 0."""

    uses_vocabulary = True

    config: CategoryOptions

    def __init__(self, config: CategoryOptions, *, context: CodecContext) -> None:
        super().__init__(config, context=context)
        self._rows = self._missing = self._unknown = 0
        name, weighs = context.spec.name, context.spec.role == "weight"
        if weighs and config.weights is None:
            raise UsageError(f"fields.{name}: a category with role = 'weight' needs weights, what each of its values weighs")
        if config.weights is not None and not weighs:
            raise UsageError(f"fields.{name}: weights are for a field with role = 'weight'; a field of another role reads the same column")

    def observe(self, values: pa.Array) -> None:
        """See some train values; the vocabulary counts them."""
        if self.config.weights is not None:
            self._weighed(values, self.config.weights)
        self._rows += len(values)
        self._missing += int(missing_mask(values).sum())

    def finish(self) -> None:
        """Nothing to settle: the vocabulary is the state."""

    def encode(self, values: pa.Array) -> Column:
        """int64 [B] (weights: float32 [B]); missing rows hold 0 and are not present.

        Raises:
            BadValue: a value that has no weight.
        """
        missing = missing_mask(values)
        if self.config.weights is not None:
            return self._weighed(values, self.config.weights)
        codes = self.vocabulary.encode(values)
        self._unknown += int(np.count_nonzero(codes == 0)) - int(np.count_nonzero(missing))
        present = torch.from_numpy(~missing) if missing.any() else None
        return Column(torch.from_numpy(codes), None, present)

    def _weighed(self, values: pa.Array, of_value: Mapping[str, float]) -> Column:
        coded = values if pa.types.is_dictionary(values.type) else values.dictionary_encode()
        codes = np.where(missing_mask(values), -1, np.asarray(coded.indices.fill_null(-1)))
        numbers = np.full(len(values), np.nan)
        for code, value in enumerate(coded.dictionary.to_pylist()):
            here = codes == code
            if here.any():
                if str(value) not in of_value:
                    known = ", ".join(of_value)
                    raise BadValue(self.context.spec, int(here.argmax()), repr(value), f"one of {known}: give it a weight too")
                numbers[here] = of_value[str(value)]
        return weights(numbers, self.context.spec)

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
