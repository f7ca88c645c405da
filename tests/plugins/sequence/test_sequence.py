from __future__ import annotations

import pyarrow as pa

from embedkit.testing.conformance.codec import CodecConformance
from embedkit_sequence.fields import SequenceOptions
from embedkit_sequence.sequence import Sequence


class TestIds(CodecConformance):
    codec = Sequence
    options = SequenceOptions(max_length=3)
    values = pa.array([[1, 2, 3, 4, 4], [], None, [5, None]])
    unseen = pa.array([[9, 1], [9, 9, 9, 9]])
    wrong = (pa.array([1]), pa.array([["a"]]))


def test_the_last_values_are_kept_in_order():
    codec = TestIds().fitted()
    code = {value: i for i, value in enumerate(codec.vocabulary.values.to_pylist(), 1)}
    assert set(code) == {3, 4, 5}  # what was cut off in training has no code
    column = codec.encode(pa.array([[5, 4, 3, 5], [3, None, 4, 5, None], [7, 3]]))
    expected = [[4, 3, 5], [3, 4, 5], [7, 3]]
    assert column.values.tolist() == [code.get(v, 0) for row in expected for v in row]
    assert column.offsets.tolist() == [0, 3, 6, 8]
    assert codec.stats.max_length == 3
