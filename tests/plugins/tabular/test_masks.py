from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError

from embedkit.errors import UsageError
from embedkit.testing.conformance.augmentation import AugmentationConformance, item_context, item_view, random_of
from embedkit_tabular.configs_ssl import CellMaskingConfig, JepaMasksConfig
from embedkit_tabular.masks import TARGET, CellMasking, JepaMasks

FEATURES = ("brand", "maker", "price", "tags")


class TestJepaMasks(AugmentationConformance):
    makes = 1

    def augmentation(self, context):
        return JepaMasks(JepaMasksConfig(), context=context)


class TestJepaMasksOfABatch(AugmentationConformance):
    makes = 1

    def augmentation(self, context):
        return JepaMasks(JepaMasksConfig(positions="batch", fields=["id", "brand", "price"]), context=context)


class TestCellMasking(AugmentationConformance):
    makes = 1

    def augmentation(self, context):
        return CellMasking(CellMaskingConfig(share=0.4), context=context)


def jepa(**options):
    return JepaMasks(JepaMasksConfig(**options), context=item_context(1))


def drawn(seed: int, **options) -> tuple[torch.Tensor, torch.Tensor]:
    """Shown bool [B, F] and targets bool [B, K, F] of one draw."""
    (view,) = jepa(**options)(item_view(), random_of(seed))
    assert view.fill == "drop"
    names = list(view.hidden)
    return ~torch.stack([view.hidden[n] for n in names], 1), torch.stack([view.params[TARGET + n] for n in names], 2)


def test_a_target_is_never_in_the_context_and_all_are_of_one_size():
    for seed in range(40):
        shown, targets = drawn(seed, context=(0.2, 0.8), target=(0.2, 0.9), targets=3)
        assert not (targets & shown.unsqueeze(1)).any()
        assert len(shown.sum(1).unique()) == 1
        assert len(targets.sum(2).unique()) == 1
        assert targets.shape == (7, 3, 4)


def test_numbers_are_drawn_evenly_between_the_shares():
    counts = [drawn(seed, context=(0.25, 0.75), target=(0.25, 0.75)) for seed in range(300)]
    shown = torch.tensor([int(context[0].sum()) for context, _ in counts]).bincount(minlength=5)
    assert shown[0] == shown[4] == 0
    assert shown[1:4].min() > 70  # of 300, 100 each
    # A target of 3 does not fit beside a context of 2 or 3.
    assert all(int(targets[0, 0].sum()) <= 4 - int(context[0].sum()) for context, targets in counts)


def test_rows_differ_unless_the_batch_is_asked_for():
    shown, targets = drawn(2, context=(0.5, 0.5), target=(0.25, 0.25), targets=2)
    assert len(shown.unique(dim=0)) > 1
    assert not torch.equal(targets[:, 0], targets[:, 1])
    shown, targets = drawn(2, context=(0.5, 0.5), target=(0.25, 0.25), targets=2, positions="batch")
    assert len(shown.unique(dim=0)) == len(targets.unique(dim=0)) == 1


def test_ranks_share_the_numbers_and_draw_rows_of_their_own():
    first, other = random_of(0), random_of(0)
    other.local.manual_seed(99)
    (a,), (b,) = jepa()(item_view(), first), jepa()(item_view(), other)
    hidden = [torch.stack(list(view.hidden.values()), 1) for view in (a, b)]
    assert torch.equal(hidden[0].sum(1), hidden[1].sum(1))
    assert not torch.equal(*hidden)


def test_the_key_stays_out_unless_it_is_named():
    assert tuple(jepa().fields) == tuple(jepa(tower="item").fields) == FEATURES
    assert jepa(fields=["id", "price"]).fields == ["id", "price"]


def test_what_was_hidden_before_stays_hidden():
    (first,) = CellMasking(CellMaskingConfig(share=0.5), context=item_context(1))(item_view(), random_of(0))
    (second,) = CellMasking(CellMaskingConfig(share=0.1), context=item_context(1))(first, random_of(1))
    assert all((second.hidden[name] >= first.hidden[name]).all() for name in FEATURES)
    assert any((second.hidden[name] > first.hidden[name]).any() for name in FEATURES)


def test_a_share_of_the_cells_is_hidden():
    masking = CellMasking(CellMaskingConfig(share=0.3), context=item_context(1))
    found = [torch.stack(list(masking(item_view(), random_of(seed))[0].hidden.values())).float().mean() for seed in range(300)]
    assert abs(float(torch.stack(found).mean()) - 0.3) < 4 * math.sqrt(0.3 * 0.7 / (300 * 28))


def test_what_cannot_be_is_told():
    with pytest.raises(UsageError, match="jepa_masks makes one view, but 2 are named in 'makes'"):
        JepaMasks(JepaMasksConfig(), context=item_context(2))
    with pytest.raises(UsageError, match="wants at least two fields, one to see and one to predict; table 'items' gives it price"):
        jepa(fields=["price"])
    with pytest.raises(UsageError, match="field 'colour' is not in the batches of table 'items', which hold id, brand"):
        jepa(fields=["colour"])
    with pytest.raises(ValidationError, match=r"context = \[0.5, 0.2\]: the first share must not be above the second"):
        JepaMasksConfig(context=(0.5, 0.2))
