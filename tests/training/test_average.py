"""The moving average of the weights: what it is, that it is what is measured and kept, and that training goes on beside it."""

from __future__ import annotations

import json
import os
import signal

import pytest
import torch
from torch import nn

from embedkit.bundle import load_bundle
from embedkit.config.model import AverageConfig
from embedkit.launch import reopen
from embedkit.training.average import Average
from embedkit.training.run import train_run
from embedkit.training.schedule import Clock


def weights(result, shop):
    return load_bundle(result.bundle, shop.host.registry).model.state_dict()


def records(result, kind):
    return [r for r in map(json.loads, result.folder.metrics.read_text().splitlines()) if r["kind"] == kind]


def equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_it_is_the_weighted_sum_of_the_weights_so_far():
    p = nn.Parameter(torch.zeros(3))
    momentum = {"from": 0.5, "to": 0.9, "over": 4}
    average = Average(AverageConfig.model_validate({"momentum": momentum}), {"p": p})
    wanted = torch.zeros(3)
    for step in range(4):
        p.data.copy_(torch.tensor([1.0, -2.0, 3.0]) * (step + 1))
        average.update(Clock(step, 4))
        wanted = wanted.lerp(p.data, 1 - (0.5 + 0.1 * step))
    torch.testing.assert_close(average.state_dict()["p"], wanted)


def test_the_weights_come_back_and_stay_the_optimisers():
    p = nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([p], lr=1.0)
    average = Average(AverageConfig(momentum=0.5), {"p": p})
    p.data.fill_(3.0)
    average.update(Clock(0, 2))
    with average.shown():
        assert p.tolist() == [2.0, 2.0]
    assert p.tolist() == [3.0, 3.0]
    p.sum().backward()
    optimizer.step()
    assert p.tolist() == [2.0, 2.0]
    assert average.state_dict()["p"].tolist() == [2.0, 2.0]
    p.data.zero_()
    assert average.state_dict()["p"].tolist() == [2.0, 2.0], "the average has storage of its own"


def test_none_changes_nothing():
    p = nn.Parameter(torch.ones(2))
    average = Average(None, {"p": p})
    average.update(Clock(0, 2))
    with average.shown():
        assert p.tolist() == [1.0, 1.0]
    average.keep()
    assert average.state_dict() == {}
    assert average.nbytes == 0


def test_the_average_is_kept_and_training_goes_on_with_the_weights(shop):
    plain = shop.train(steps=12)
    averaged = shop.train(steps=12, average={"momentum": 0.9})
    assert [r["losses"] for r in records(plain, "train")] == [r["losses"] for r in records(averaged, "train")]
    assert not equal(weights(plain, shop), weights(averaged, shop))
    none_kept = shop.train(steps=12, average={"momentum": 0.0})
    torch.testing.assert_close(weights(plain, shop), weights(none_kept, shop), rtol=0, atol=1e-6)


def test_validation_measures_the_average_and_keeps_it_as_best(shop):
    stage = {"steps": 12, "validate": {"every": 4, "metric": "loss"}}
    plain = shop.train(**stage)
    averaged = shop.train(**stage, average={"momentum": 0.9})
    assert [r["losses"] for r in records(plain, "train")] == [r["losses"] for r in records(averaged, "train")]
    theirs, ours = ([r["value"] for r in records(one, "valid")] for one in (plain, averaged))
    assert all(a != b for a, b in zip(theirs, ours, strict=True))
    assert ours.index(min(ours)) == 2, "an average that lags behind is best at the end"
    assert equal(weights(averaged, shop), weights(shop.train(steps=12, average={"momentum": 0.9}), shop))


def test_a_resumed_run_ends_with_the_same_average(shop):
    stage = {"checkpoint_every": 100, "average": {"momentum": {"from": 0.8, "to": 0.95, "warmup": 3}}, "validate": {"every": 8}}
    whole = shop.train(**stage)
    plan, folder = shop.launch(shop.run_file(**stage))
    seen = []

    def stop(hook, **_):
        seen.append(hook)
        if len(seen) == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    shop.host.announce = stop
    with pytest.raises(KeyboardInterrupt):
        train_run(plan, folder, shop.host)
    del shop.host.announce
    resumed = train_run(*reopen(folder.path, shop.host), shop.host, resume=True, log=shop.lines.append)
    assert any("continuing from step" in line for line in shop.lines)
    assert equal(weights(whole, shop), weights(resumed, shop))
