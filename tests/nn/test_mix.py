from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from embedkit.data.store import Store
from embedkit.errors import UsageError
from embedkit.nn.model import Model
from embedkit.testing.shop import make_plan
from embedkit.views import Mix, View


@pytest.fixture(scope="module")
def made(shop, registry):
    plan = make_plan(shop, registry)
    store = Store.open(plan)
    store.fit()
    torch.manual_seed(0)
    model = Model(plan.model, store.codecs.stats).eval()
    return model, lambda first, count: store.batch({"items": torch.arange(first, first + count)}, plan.schema.towers["item"].fields)


def fields_of(model):
    return model.spec.schema.tower_fields("item")


def dense(model, tokens):
    """Tokens with zeros where there is none, field by field, as wide as both sides need."""
    return {name: tokens.x[:, s].masked_fill(tokens.pad[:, s].unsqueeze(-1), 0.0) for name, s in tokens.spans.items()}


def test_tokens_are_mixed_row_by_row(made):
    model, batch = made
    rows = torch.tensor([2, 0, 1, 3])
    first, second = View(batch(0, 4)), View(batch(30, 4))
    mixed = model.tokens(replace(first, mix=Mix(second, rows, 0.3)), fields_of(model))
    own, other = (dense(model, model.tokens(view, fields_of(model))) for view in (first, second))
    for name, span in mixed.spans.items():
        x = mixed.x[:, span]
        a, b = (torch.nn.functional.pad(t, (0, 0, 0, x.shape[1] - t.shape[1])) for t in (own[name], other[name]))
        assert torch.allclose(x, 0.3 * a + 0.7 * b[rows], atol=1e-6)


def test_the_ends_are_the_views_themselves(made):
    model, batch = made
    first, second = View(batch(0, 5)), View(batch(40, 5))
    order = torch.arange(5)
    for share, view in ((1.0, first), (0.0, second)):
        found = model.tokens(replace(first, mix=Mix(second, order, share)), fields_of(model))
        wanted = dense(model, model.tokens(view, fields_of(model)))
        for name, x in dense(model, found).items():
            assert torch.allclose(x[:, : wanted[name].shape[1]], wanted[name], atol=1e-7)


def test_hidden_values_stay_hidden(made):
    """What is hidden in both views changes no output."""
    model, batch = made
    hidden = {"brand": torch.ones(4, dtype=torch.bool)}

    def embedding(brand):
        views = []
        for start in (0, 4):
            one = batch(start, 4)
            column = replace(one.columns["brand"], values=torch.full((4,), brand), present=None)
            views.append(View(replace(one, columns={**one.columns, "brand": column}), hidden=hidden))
        return model(replace(views[0], mix=Mix(views[1], torch.tensor([3, 2, 1, 0]), 0.5)), "item").embedding

    assert torch.equal(embedding(1), embedding(2))


def test_windows_cannot_be_mixed(made, shop, registry):
    plan = make_plan(shop, registry, model={"dim": 16, "trunk": {"use": "mean"}})
    store = Store.open(plan)
    store.fit()
    model = Model(plan.model, store.codecs.stats)
    batch = replace(store.batch({"events": torch.arange(3)}, ("history",)), window="history")
    view = View(batch)
    with pytest.raises(UsageError, match="its rows cannot be mixed"):
        model(replace(view, mix=Mix(view, torch.arange(3), 0.5)), "user")
