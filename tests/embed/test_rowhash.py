"""Row hashes see every value that a tower reads, and nothing else."""

from __future__ import annotations

import hashlib

import torch

from embedkit.data.batch import Batch
from embedkit.data.columns import Column
from embedkit.embed.rowhash import row_hashes


def batch() -> Batch:
    return Batch(
        {
            "a": Column(torch.tensor([1.0, -0.0, 7.0, 0.0]), None, torch.tensor([True, True, False, True])),
            "b": Column(torch.tensor([4, 5, 6, 7]), torch.tensor([0, 2, 2, 3, 4]), torch.tensor([True, True, True, False])),
            "c": Column(torch.tensor([[1, 2], [3, 4], [5, 6], [7, 8]])),
        }
    )


def test_the_canonical_bytes_are_what_the_format_says() -> None:
    first = row_hashes(batch(), ["a", "b"])[0]
    one = torch.tensor([1.0]).numpy().tobytes()
    eight = (2).to_bytes(8, "little")
    values = (4).to_bytes(8, "little") + (5).to_bytes(8, "little")
    assert first == hashlib.blake2b(b"\1" + one + b"\1" + eight + values, digest_size=16).digest()


def test_equal_rows_have_equal_hashes_wherever_they_stand() -> None:
    whole, order = row_hashes(batch(), ["a", "b", "c"]), torch.tensor([3, 1, 0, 2])
    moved = Batch({name: column.take(order) for name, column in batch().columns.items()})
    assert row_hashes(moved, ["a", "b", "c"]) == [whole[i] for i in order.tolist()]
    assert len(set(whole)) == 4


def test_every_value_counts_but_not_those_that_are_missing() -> None:
    whole = row_hashes(batch(), ["a", "b", "c"])
    changed = batch()
    changed.columns["a"].values[2] = 99.0  # not present
    changed.columns["b"].values[3] = 99  # not present
    assert row_hashes(changed, ["a", "b", "c"]) == whole
    changed.columns["b"].values[2] = 99
    changed.columns["c"].values[0, 1] = 99
    different = [i for i, (x, y) in enumerate(zip(whole, row_hashes(changed, ["a", "b", "c"]), strict=True)) if x != y]
    assert different == [0, 2]


def test_negative_zero_is_zero_and_no_rows_give_no_hashes() -> None:
    zero, other = Column(torch.tensor([0.0])), Column(torch.tensor([-0.0]))
    assert row_hashes(Batch({"a": zero}), ["a"]) == row_hashes(Batch({"a": other}), ["a"])
    empty = Batch({"a": Column(torch.empty(0)), "b": Column(torch.empty(0), torch.zeros(1, dtype=torch.int64))})
    assert row_hashes(empty, ["a", "b"]) == []
