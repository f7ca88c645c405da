from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch

from embedkit.bundle import load_bundle
from embedkit.data.batch import Batch
from embedkit.errors import DataError, UsageError
from embedkit.evaluate.run import read_evaluation
from embedkit.training.weights import row_weights, weighted_mean

KNOWN = torch.tensor([True, True, False, True])


def test_without_a_field_known_rows_count_alike():
    assert row_weights(Batch({}), None, KNOWN).tolist() == [1, 1, 0, 1]


def test_unknown_rows_and_missing_weights_do_not_count():
    batch = Batch({}, labels={"w": torch.tensor([0.5, 2.0, 3.0, 4.0])}, extras={"w.present": torch.tensor([True, False, True, True])})
    assert row_weights(batch, "w", KNOWN).tolist() == [0.5, 0, 0, 4]


def test_a_batch_without_the_weights_is_refused():
    with pytest.raises(UsageError, match="do not hold weight 'w': draw from its table"):
        row_weights(Batch({}), "w", KNOWN)
    with pytest.raises(UsageError, match=r"weight 'w' has \(2,\) values for 4 rows"):
        row_weights(Batch({}, labels={"w": torch.ones(2)}), "w", KNOWN)


def test_a_weight_of_two_is_two_copies_and_a_weight_of_zero_is_none():
    losses = torch.tensor([1.0, 2.0, 5.0], requires_grad=True)
    found = weighted_mean(losses, torch.tensor([2.0, 1.0, 0.0]))
    found.backward()
    assert found.item() == pytest.approx(float(torch.tensor([1.0, 1.0, 2.0]).mean()))
    assert losses.grad.tolist() == pytest.approx([2 / 3, 1 / 3, 0.0])
    same = weighted_mean(losses.detach(), 10 * torch.tensor([2.0, 1.0, 0.0]))
    assert same.item() == pytest.approx(found.item())


def test_no_weight_at_all_is_a_zero_with_zero_gradients():
    losses = torch.tensor([1.0, 2.0], requires_grad=True)
    weighted_mean(losses, torch.zeros(2)).backward()
    assert losses.grad.tolist() == [0, 0]


# -- in a run: events of three kinds


def kinds(shop, *, weights=None, rows="events", weight_by="importance", **stage):
    """The shop's run file with an event type, the weights of its kinds, and a table that has both."""
    path = shop.folder / "events.parquet"
    frame = pl.read_parquet(path)
    kind = np.array(["view", "cart", "purchase"])[(np.arange(frame.height) // 9 + np.arange(frame.height)) % 3]
    frame.with_columns(event_type=pl.Series(kind)).write_parquet(path)
    run = shop.run_file(**stage)
    run["fields"]["event_type"] = {"table": "events", "type": "category", "role": "group"}
    run["fields"]["importance"] = {"table": "events", "column": "event_type", "type": "category", "role": "weight"}
    run["fields"]["importance"]["weights"] = {"view": 0.2, "cart": 0.5, "purchase": 1.0} if weights is None else weights
    run["stages"][0]["streams"]["main"]["rows"] = rows
    if rows == "windows":
        run["model"]["trunks"]["user"] = {"use": "transformer", "causal": True, "layers": 1, "heads": 2}
    if weight_by:
        run["stages"][0]["losses"][0]["weight_by"] = weight_by
    return run


@pytest.mark.parametrize(("rows", "size"), [("events", 64), ("windows", 16)])
def test_weights_change_what_is_learnt_and_equal_ones_do_not(shop, rows, size):
    streams = {"main": {"table": "events", "size": size}, "ssl": {"table": "items", "sampler": "uniform", "size": 32}}

    def learnt(**options):
        # Not Adam: it makes steps of one size from gradients that are nothing but rounding.
        sgd = {"use": "sgd", "lr": 0.3}
        result = shop.train(kinds(shop, rows=rows, steps=6, optimizer=sgd, streams={k: dict(v) for k, v in streams.items()}, **options))
        model = load_bundle(result.bundle, shop.host.registry).model
        return torch.cat([p.detach().flatten() for _, p in sorted(model.named_parameters())])

    plain = learnt(weight_by=None)
    torch.testing.assert_close(learnt(weights={"view": 3.0, "cart": 3.0, "purchase": 3.0}), plain, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(learnt(), plain, rtol=1e-2, atol=1e-3)


def test_only_events_of_one_kind_are_asked(shop):
    run = kinds(shop, steps=2)
    run["evaluate"] = [
        {
            "use": "retrieval",
            "query": "user",
            "target": "item",
            "exclude_seen": False,
            "target_field": "event_type",
            "target_values": values,
        }
        for values in (["purchase"], ["view", "cart"], ["view", "cart", "purchase"])
    ]
    folder = shop.train(run).folder
    asked = [
        e["n"] for e in read_evaluation(folder)["estimates"] if (e["metric"], e["model"], e["split"]) == ("recall@10", "model", "test")
    ]
    assert asked[0] + asked[1] == asked[2] == 90
    assert asked[0] == 30  # of every third user the last event is a purchase
    run["evaluate"] = [{**run["evaluate"][0], "target_values": ["purchse"]}]
    with pytest.raises(UsageError, match="field 'event_type' has no value 'purchse' in a train row; did you mean 'purchase'"):
        shop.train(run)


@pytest.mark.parametrize(
    ("edit", "error", "message"),
    [
        ({"weights": {"view": 0.2, "cart": 0.5}}, DataError, "'purchase'.*, wanted one of view, cart: give it a weight too"),
        ({"weights": None}, UsageError, "fields.importance: a category with role = 'weight' needs weights"),
        ({"role": "group"}, UsageError, "fields.importance: weights are for a field with role = 'weight'"),
    ],
)
def test_weights_that_say_too_little_are_refused(shop, edit, error, message):
    run = kinds(shop, weight_by=None)
    run["fields"]["importance"] |= edit
    if edit.get("weights", 0) is None:
        del run["fields"]["importance"]["weights"]
    with pytest.raises(error, match=message):
        shop.train(run)


def test_a_field_that_is_no_weight_is_refused(shop):
    with pytest.raises(UsageError, match=r"weight_by = 'event_type' is no weight; set role = 'weight' .* name one of: importance"):
        shop.train(kinds(shop, weight_by="event_type"))
