from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from embedkit.data.batch import Batch
from embedkit.data.columns import Column
from embedkit.errors import UsageError
from embedkit.testing.conformance.augmentation import item_context, item_view, random_of
from embedkit.views import View
from embedkit_contrastive.configs import CorruptionConfig
from embedkit_contrastive.corruption import Corruption


def corruption(makes=2, **options):
    return Corruption(CorruptionConfig(**options), context=item_context(makes))


def cells(column):
    """Every row's cell as a Python value."""
    present = torch.ones(len(column), dtype=torch.bool) if column.present is None else column.present
    if column.ragged:
        bounds = column.offsets.tolist()
        found = [tuple(column.values[a:b].tolist()) for a, b in pairwise(bounds)]
    else:
        found = column.values.tolist()
    return [value if there else None for value, there in zip(found, present.tolist(), strict=True)]


def test_cells_come_from_the_same_column_of_another_row_and_the_key_stays():
    view = item_view()
    made = corruption(share=1.0)(view, random_of(0))
    assert len(made) == 2
    for one in made:
        assert cells(one.batch.columns["id"]) == cells(view.batch.columns["id"])
        for name in ("brand", "maker", "price", "tags"):
            before, after = cells(view.batch.columns[name]), cells(one.batch.columns[name])
            for row, cell in enumerate(after):  # with probability one every cell is another row's
                assert cell in before[:row] + before[row + 1 :]
        assert torch.equal(one.batch.rows["items"], view.batch.rows["items"])


def test_missing_travels_with_the_cell():
    values, present = torch.arange(100.0), torch.arange(100) % 3 != 0
    view = View(replace(item_view().batch, columns={"price": Column(values, None, present)}))
    after = corruption(share=1.0, fields=["price"], makes=1)(view, random_of(1))[0].batch.columns["price"]
    assert torch.equal(after.present, present[after.values.long()])
    assert not torch.equal(after.present, present)


def test_the_share_is_kept_cell_by_cell():
    rows = 4000
    columns = {"brand": Column(torch.arange(rows)), "maker": Column(torch.arange(rows))}
    made = corruption(share=0.3, fields=["brand", "maker"])(View(Batch(columns)), random_of(2))
    changed = torch.stack([one.batch.columns[name].values != torch.arange(rows) for one in made for name in columns])
    assert changed.float().mean(1).sub(0.3).abs().max() < 0.03
    together = changed[0] & changed[1]
    assert abs(float(together.float().mean()) - 0.09) < 0.02  # columns and views are drawn apart


def test_masks_of_single_values_go_where_the_values_go():
    view = item_view()
    column = view.batch.columns["tags"]
    hidden = column.values % 2 == 0
    made = corruption(share=1.0, fields=["tags"], makes=1)(replace(view, hidden_values={"tags": hidden}), random_of(3))[0]
    assert torch.equal(made.hidden_values["tags"], made.batch.columns["tags"].values % 2 == 0)


def test_one_row_has_no_other():
    view = View(Batch({"brand": Column(torch.tensor([5]))}))
    assert corruption(share=1.0, fields=["brand"], makes=1)(view, random_of(0))[0].batch.columns["brand"].values.tolist() == [5]


def test_what_cannot_be_corrupted_is_refused():
    with pytest.raises(UsageError, match="field 'colour' is no feature in the batches of table 'items', which hold id, brand"):
        corruption(fields=["colour"])
    view = item_view()
    with pytest.raises(UsageError, match="rows = 'windows' cannot be corrupted"):
        corruption()(View(replace(view.batch, window="tags")), random_of(0))
