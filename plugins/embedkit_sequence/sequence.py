"""Field type ``sequence``: the last ids of lists in order, ragged int64 codes."""

from __future__ import annotations

import pyarrow as pa

from embedkit.data.coded_lists import CodedLists
from embedkit.data.lists import Lists, read_lists
from embedkit_sequence.fields import SequenceOptions


class Sequence(CodedLists):
    """Ids in order, the last ``max_length`` of each list: a session, or a user's earlier events as a list.

    A user's history on an event table is never stored as lists: the loader gathers the codes of earlier events, and this type encodes the
    lists that are asked for when the model serves.
    """

    config: SequenceOptions

    def lists(self, values: pa.Array) -> Lists:
        """The last ``max_length`` members of each list that are not missing."""
        return read_lists(values, self.context.spec).last(self.config.max_length)

    @property
    def max_length(self) -> int:
        """The option: serving may bring longer lists than training saw."""
        return self.config.max_length
