from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from embedkit.data.columns import Column
from embedkit.errors import UsageError
from embedkit.nn.pooling import slots
from embedkit.testing.conformance.augmentation import random_of
from embedkit.testing.conformance.loss import LossConformance
from embedkit.training.schedule import Clock
from embedkit.training.step import StepModule, WeightedLoss
from embedkit.views import View
from embedkit_tabular.configs_ssl import CellMaskingConfig, MaskedCellsConfig
from embedkit_tabular.masked_cells import MaskedCells
from embedkit_tabular.masks import CellMasking

sys.path.insert(0, str(Path(__file__).parent))
from rows import CODECS, NAMES, SPECS, batch, changed, loss_context, masks_context, model


class TestMaskedCells(LossConformance):
    fields = SPECS

    def loss(self, context):
        loss = MaskedCells(MaskedCellsConfig(tower="item", view="a"), context=replace(context, codecs=CODECS))
        torch.nn.init.normal_(loss.weight)  # zeros at the start: the very first gradient of the tokens would be zero
        return loss

    def dress(self, view):
        rows = len(view.batch.rows["items"])
        data = batch(max(1, rows))
        columns = {name: column.take(torch.arange(rows)) for name, column in data.columns.items()}
        hidden = {name: torch.arange(rows) % 2 == i % 2 for i, name in enumerate(NAMES)}
        return replace(view, batch=replace(view.batch, columns=columns), hidden=hidden)


def make(**options) -> MaskedCells:
    torch.manual_seed(1)
    return MaskedCells(MaskedCellsConfig(**{"tower": "row", "view": "seen"} | options), context=loss_context())


def hide(main: View, share=0.5, seed=0) -> View:
    return CellMasking(CellMaskingConfig(share=share), context=masks_context())(main, random_of(seed))[0]


def run(loss, seen, student=None):
    step = StepModule(model() if student is None else student, [WeightedLoss("cells", loss, 1.0)])
    return step({"main": View(seen.batch), "seen": seen}, Clock(0, 10), random_of(0))


def test_it_is_the_mean_over_hidden_cells_of_a_field_then_over_fields():
    torch.manual_seed(3)
    seen, student, loss = hide(View(batch())), model(), make()
    torch.nn.init.normal_(loss.weight)
    result = run(loss, seen, student)
    x = dict(zip(NAMES, slots(student(seen, "row").tokens, NAMES).unbind(1), strict=True))
    means = {}
    for name in NAMES:
        column = seen.batch.columns[name]
        cells = seen.hidden[name] if column.present is None else seen.hidden[name] & column.present
        if name in ("brand", "colour"):
            means[name] = F.cross_entropy(loss.heads[name](x[name][cells]), column.values[cells])
        else:
            i = ["price", "size"].index(name)
            means[name] = (x[name][cells] @ loss.weight[i] + loss.bias[i] - column.values[cells]).square().mean()
    torch.testing.assert_close(result.total, torch.stack(list(means.values())).mean())
    torch.testing.assert_close(result.scalars["cells/numbers"], (means["price"] + means["size"]).detach() / 2)


def test_missing_cells_and_visible_cells_do_not_count():
    seen, loss = hide(View(batch())), make()
    torch.nn.init.normal_(loss.weight)
    price = seen.batch.columns["price"]
    nonsense = Column(price.values.masked_fill(~price.present, 1e9), None, price.present)
    spoilt = replace(seen, batch=replace(seen.batch, columns={**seen.batch.columns, "price": nonsense}))
    assert torch.equal(run(loss, spoilt).total, run(loss, seen).total)
    only = replace(seen, hidden={"price": ~price.present})
    result = run(loss, only)
    result.total.backward()
    assert float(result.total.detach()) == 0.0
    assert all(p.grad is None or not p.grad.any() for p in loss.parameters())


def test_hidden_cells_do_not_reach_the_tokens():
    seen, student = hide(View(batch())), model()
    other = replace(seen, batch=changed(seen.batch, dict(seen.hidden)))
    assert torch.equal(student(seen, "row").tokens.x, student(other, "row").tokens.x)


def test_it_learns_what_tells_of_a_hidden_cell():
    """The size is the price: a hidden size can be told from a visible price, better than by its mean."""
    torch.manual_seed(0)
    data = batch(256)
    data = replace(data, columns={**data.columns, "size": data.columns["price"]})
    step = StepModule(model(), [WeightedLoss("cells", make(fields=["size"]), 1.0)])
    optimizer = torch.optim.AdamW(step.parameters(), lr=1e-2)
    seen = replace(View(data), hidden={"size": torch.ones(256, dtype=torch.bool)})
    for _ in range(100):
        result = step({"main": View(data), "seen": seen}, Clock(0, 10), random_of(0))
        result.total.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    present = data.columns["size"].present
    assert float(result.total.detach()) < 0.2 * float(data.columns["size"].values[present].var())


def test_what_cannot_be_is_told():
    main = View(batch())
    with pytest.raises(UsageError, match="view 'seen' hides nothing: make it with the augmentation cell_masking"):
        run(make(), main)
    with pytest.raises(UsageError, match="drops what it hides"):
        run(make(), replace(hide(main), fill="drop"))
    with pytest.raises(UsageError, match="field 'smell' cannot be told: it is no category or number of tower 'row'; there are brand"):
        make(fields=["smell"])
