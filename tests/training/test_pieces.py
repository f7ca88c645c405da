"""Forwards in pieces: the gradients of the whole batch, whatever the pieces; dropout the same when a piece is computed again."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from embedkit.data.store import Store
from embedkit.errors import PluginError, UsageError
from embedkit.nn.model import Model
from embedkit.nn.values import Outputs
from embedkit.testing.conformance.augmentation import random_of
from embedkit.training import pieces
from embedkit.training.compute import seeded, set_up
from embedkit.training.pieces import cut, forward_in_pieces, refuse_batch_statistics
from embedkit.training.session import Session
from embedkit.training.stages import StageContext


def open_session(shop, run):
    plan, folder = shop.launch(run)
    device = set_up(plan.config.compute)
    store = Store.open(plan)
    store.fit()
    with seeded(0):
        model = Model(plan.model, store.codecs.stats)
    context = StageContext(plan, shop.host, store, model, folder, 0, "train", 7, device, False, shop.lines.append)
    return Session.open(plan.stages[0].config, context)


def run_file(shop, rows, dropout, **stage):
    run = shop.run_file(**stage)
    run["stages"][0]["streams"]["main"] |= {"rows": rows, "size": 30}
    run["model"]["trunks"]["user"] = {"use": "transformer", "layers": 2, "heads": 2, "causal": True, "dropout": dropout}
    return run


def gradients(session, views, rows, seed=3):
    """The loss and all gradients of one step with pieces of so many rows."""
    session.module.forward_rows = rows
    torch.manual_seed(seed)
    result = session.module(views, session.clock, random_of(0))
    result.total.backward()
    found = {name: p.grad for name, p in session.context.model.named_parameters()}
    for p in session.context.model.parameters():
        p.grad = None
    return float(result.total.detach()), found


def assert_same(first, second):
    assert first[0] == pytest.approx(second[0], rel=1e-5)
    for name, grad in first[1].items():
        other = second[1][name]
        assert (grad is None) == (other is None), name
        if grad is not None:
            assert float((grad - other).abs().max()) <= 1e-5 * max(float(grad.abs().max()), 1e-3), name


@pytest.fixture(params=["events", "windows"])
def rows(request):
    return request.param


def test_gradients_are_those_of_the_whole_batch(shop, rows):
    session = open_session(shop, run_file(shop, rows, dropout=0.0))
    views, _ = session.next_views()
    whole = gradients(session, views, None)
    assert sum(grad is not None for grad in whole[1].values()) > 10
    for size in (1, 7, 30):
        assert_same(whole, gradients(session, views, size))


def test_dropout_is_the_same_when_a_piece_is_computed_again(shop, rows, monkeypatch):
    session = open_session(shop, run_file(shop, rows, dropout=0.3))
    views, _ = session.next_views()
    again = gradients(session, views, 7)
    assert again[0] != gradients(session, views, 7, seed=4)[0], "there is dropout"
    monkeypatch.setattr(pieces, "checkpoint", lambda run, *args, **_: run(*args))
    assert_same(gradients(session, views, 7), again)


def test_autocast_holds_when_a_piece_is_computed_again(shop, monkeypatch):
    run = run_file(shop, "events", dropout=0.3)
    run["compute"]["precision"] = "bfloat16"
    session = open_session(shop, run)
    views, _ = session.next_views()
    again = gradients(session, views, 7)
    monkeypatch.setattr(pieces, "checkpoint", lambda run, *args, **_: run(*args))
    assert_same(gradients(session, views, 7), again)


def test_only_one_piece_is_held(shop, monkeypatch):
    session = open_session(shop, run_file(shop, "events", dropout=0.0))
    views, _ = session.next_views()
    held = {}
    for size in (None, 3):
        session.module.forward_rows = size
        kept = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x, kept=kept: kept.append(x.numel()) or x, lambda x: x):
            session.module(views, session.clock, random_of(0))
        held[size] = sum(kept)
    assert held[3] < held[None] / 3


def test_hidden_rows_and_values_are_cut_with_the_columns(shop):
    session = open_session(shop, shop.run_file())
    view = session.next_views()[0]["a"]
    fields = list(session.context.plan.schema.towers["item"].fields)
    parts = list(cut(view, fields, 5))
    assert [len(part.batch.columns["price"]) for part in parts] == [5] * 6 + [2]
    for name, mask in view.hidden.items():
        assert torch.equal(torch.cat([part.hidden[name] for part in parts]), mask)
    for name, mask in view.hidden_values.items():
        assert torch.equal(torch.cat([part.hidden_values[name] for part in parts]), mask)
        values = torch.cat([part.batch.columns[name].values for part in parts])
        assert torch.equal(values, view.batch.columns[name].values)
    assert torch.equal(torch.cat([part.batch.rows["items"] for part in parts]), view.batch.rows["items"])


def test_tokens_and_layers_are_put_together_when_they_are_asked_for(shop):
    session = open_session(shop, run_file(shop, "events", dropout=0.0))
    model, view = session.context.model, session.next_views()[0]["main"]
    whole: Outputs = model(view, "user", layers=(1, 2))
    found = forward_in_pieces(model, view, "user", 4, layers=(1, 2), tokens=True)
    assert torch.equal(found.tokens.pad, whole.tokens.pad)
    shown = ~whole.tokens.pad.unsqueeze(-1)
    torch.testing.assert_close(found.tokens.x * shown, whole.tokens.x * shown)
    torch.testing.assert_close(found.layers[1] * shown, whole.layers[1] * shown)
    item, cat = (run(view, "item") for run in (model, lambda *a: forward_in_pieces(model, *a, 4, tokens=True)))
    assert {n: s.stop - s.start for n, s in item.tokens.spans.items()} == {n: s.stop - s.start for n, s in cat.tokens.spans.items()}


def test_tokens_that_nobody_asked_for_are_told(shop):
    session = open_session(shop, shop.run_file())
    view = session.next_views()[0]["main"]
    found = forward_in_pieces(session.context.model, view, "item", 4)
    with pytest.raises(PluginError, match=r"the tokens of tower 'item', which are not kept where forward_rows cuts a batch"):
        _ = found.tokens.x


def test_batch_norm_is_refused():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    with pytest.raises(UsageError, match=r"stages\.0\.forward_rows: '1' normalises over the rows of a batch"):
        refuse_batch_statistics(model, where="stages.0")


def test_a_run_in_pieces_ends_with_the_same_weights(shop):
    from embedkit.bundle import load_bundle

    stage = {"steps": 6, "optimizer": {"use": "sgd", "lr": 0.1, "momentum": 0.9}, "validate": {"every": 3, "metric": "loss"}}
    plain, cut_up = (
        load_bundle(shop.train(**stage, **more).bundle, shop.host.registry).model.state_dict() for more in ({}, {"forward_rows": 10})
    )
    torch.testing.assert_close(plain, cut_up, rtol=1e-5, atol=1e-5)
