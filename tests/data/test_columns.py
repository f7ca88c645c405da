from __future__ import annotations

import pytest
import torch

from embedkit.data.columns import Column, padded, places


def ragged(lengths):
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    return Column(torch.arange(1, int(offsets[-1]) + 1), offsets)


@pytest.mark.parametrize("lengths", [[2, 0, 3], [1], [0, 0], []])
def test_places_find_the_values_in_padded_rows(lengths):
    column = ragged(lengths)
    dense, pad = padded(column)
    found = dense.flatten()[places(column, dense.shape[1])]
    assert torch.equal(found, column.values)
    assert int((~pad).sum()) == len(found)


def test_a_column_that_moved_knows_its_longest_row():
    column = ragged([2, 0, 3])
    assert column.longest is None
    assert column.to("cpu").longest == 3
    assert ragged([]).to("cpu").longest == 0
    assert Column(torch.arange(3)).to("cpu").longest is None
    assert column.to("cpu").take(torch.tensor([0])).longest is None, "other rows have another longest one"


def test_padding_takes_the_longest_row_as_known():
    known = Column(*(getattr(ragged([2, 1]), name) for name in ("values", "offsets")), longest=4)
    assert padded(known)[0].shape == (2, 4), "the device was not asked"
    assert padded(known, max_length=2)[0].shape == (2, 2)
