from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from embedkit.data.batch import Batch
from embedkit.errors import UsageError
from embedkit.schema import FieldSpec, Schema, Tower
from embedkit.testing.conformance.augmentation import random_of
from embedkit.testing.conformance.values import ragged
from embedkit.views import AugmentationContext, View
from embedkit_sequence.configs import ItemMaskingConfig
from embedkit_sequence.item_masking import ItemMasking

SCHEMA = Schema({"history": FieldSpec("history", "sequence", "events", None, "item")}, {"user": Tower("user", ("history",), "events")}, {})
CONTEXT = AugmentationContext(SCHEMA, "events", ("history",), 1, lambda fields: None)


def hidden(lists, seed=0, **options):
    masking = ItemMasking(ItemMaskingConfig(fields=["history"], **options), context=CONTEXT)
    (view,) = masking(View(Batch({"history": ragged(lists)})), random_of(seed))
    mask = view.hidden_values["history"]
    return list(mask.split([len(one) for one in lists]))


def test_every_row_hides_one_at_least_and_about_the_share_of_its_values():
    lists = [list(range(1, n + 1)) for n in [1, 2, 50] * 200]
    masks = hidden(lists, share=0.3, last=0.0)
    assert all(mask.any() for mask in masks)
    long = torch.cat([mask for mask in masks if len(mask) == 50]).float().mean()
    assert abs(float(long) - 0.3) < 0.02


def test_in_some_rows_only_the_last_value_is_hidden():
    masks = hidden([[1, 2, 3, 4]] * 1000, share=0.9, last=0.25)
    only = [mask.tolist() == [False, False, False, True] for mask in masks]
    assert abs(sum(only) / 1000 - 0.25) < 0.05
    assert all(mask.tolist() == [False, False, False, True] for mask in hidden([[1, 2, 3, 4]] * 20, last=1.0))


def test_empty_rows_hide_nothing_and_the_seed_decides():
    lists = [[], [1], [], [2, 3], []]
    assert [len(mask) for mask in hidden(lists)] == [0, 1, 0, 2, 0]
    first, again, other = (torch.cat(hidden([[1, 2, 3]] * 50, seed=s)) for s in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_what_is_no_sequence_is_refused():
    with pytest.raises(UsageError, match="is no sequence"):
        ItemMasking(ItemMaskingConfig(fields=["price"]), context=CONTEXT)
    with pytest.raises(UsageError, match="makes one view"):
        ItemMasking(ItemMaskingConfig(fields=["history"]), context=replace(CONTEXT, makes=2))
