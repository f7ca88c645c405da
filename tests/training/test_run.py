from __future__ import annotations

import json
import math
import os
import re
import signal

import pytest
import torch

from embedkit.bundle import load_bundle
from embedkit.config.model import TrainConfig
from embedkit.errors import DataError, UsageError
from embedkit.launch import reopen
from embedkit.nn.layer import Layer
from embedkit.training import compute
from embedkit.training.run import train_run

ONE_FILE = '''
"""A one-file plugin: keeps embeddings spread out, with a moving centre."""
import torch
from embedkit import hookimpl
from embedkit.component import Config
from embedkit.training.loss import Forward, Loss, LossResult, Needs


class SpreadConfig(Config):
    tower: str
    """Tower to spread."""
    network: str = "student"
    """Network to look at beside the student."""


class Spread(Loss):
    def __init__(self, config, *, context):
        super().__init__(config, context=context)
        self.view = context.views[0]
        self.register_buffer("centre", torch.zeros(context.tower_dims[config.tower]))

    @property
    def needs(self):
        return Needs((Forward(self.view, self.config.tower), Forward(self.view, self.config.tower, self.config.network)))

    def forward(self, step):
        x = step.run(self.view, self.config.tower).embedding.float()
        other = step.run(self.view, self.config.tower, self.config.network).embedding.float()
        return LossResult(((x - self.centre) @ other.T).square().mean(), keep={"mean": x.detach().mean(0)})

    def after_update(self, step, kept):
        self.centre.lerp_(kept["mean"], 0.1)


@hookimpl
def register_losses(register):
    register("spread", Spread, config=SpreadConfig, summary="Spread embeddings.")
'''


def records(result, kind):
    return [r for r in map(json.loads, result.folder.metrics.read_text().splitlines()) if r["kind"] == kind]


def weights(result, shop):
    return load_bundle(result.bundle, shop.host.registry).model.state_dict()


def equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_a_run_learns_and_leaves_a_bundle_figures_and_a_curve(shop):
    run = shop.run_file(steps=80)
    run["evaluate"] = [{"use": "retrieval", "query": "user", "target": "item", "k": [10], "exclude_seen": False}]
    result = shop.train(run)
    losses = [r["losses"]["sampled_softmax"] for r in records(result, "train")]
    assert len(losses) == 14
    assert losses[-1] < losses[0] - 0.5
    assert result.metrics["recall@10"] > 0.5, "a user's next item is one of the ten of their kind"
    assert result.folder.state == "finished"
    assert result.folder.curve.exists()
    assert json.loads(result.folder.evaluation.read_text())["estimates"]
    assert load_bundle(result.bundle, shop.host.registry).model.dims == {"item": 16, "user": 16}
    assert any("memory: about" in line for line in shop.lines)


@pytest.mark.parametrize("split", ["valid", "none"])
def test_the_test_rows_can_be_left_alone(shop, split):
    run = shop.run_file(steps=2)
    run["evaluate"] = [{"use": "retrieval", "query": "user", "target": "item", "k": [10], "exclude_seen": False}]
    run["evaluate_on"] = split
    result = shop.train(run)
    measured = json.loads((result.bundle / "metrics.json").read_text())
    if split == "none":
        assert not result.metrics
        assert not measured
        assert not result.folder.evaluation.exists()
        return
    assert {one["split"] for one in json.loads(result.folder.evaluation.read_text())["estimates"]} == {"valid"}
    assert measured == {f"valid/{name}": value for name, value in result.metrics.items()}
    assert result.folder.queries("valid").exists()
    assert not result.folder.queries("test").exists()


def test_equal_seeds_give_equal_weights(shop):
    first, second = (weights(shop.train(steps=6), shop) for _ in range(2))
    assert equal(first, second)
    run = shop.run_file(steps=6)
    run["seed"] = 6
    assert not equal(first, weights(shop.train(run), shop))


def test_windows_and_sparse_tables(shop):
    run = shop.run_file(table_optimizer={"use": "rowwise_adagrad", "lr": 0.1}, steps=30)
    run["stages"][0]["streams"]["main"] |= {"rows": "windows", "size": 32}
    run["model"]["trunks"]["user"] = {"use": "transformer", "layers": 1, "heads": 2, "causal": True}
    losses = [r["losses"]["sampled_softmax"] for r in records(shop.train(run), "train")]
    assert losses[-1] < losses[0]


def test_bfloat16_and_frozen_parameters(shop):
    run = shop.run_file(freeze=["encoders.*"], optimizer={"use": "sgd", "lr": 0.1, "momentum": 0.9}, clip=None)
    run["compute"]["precision"] = "bfloat16"
    first = shop.train(run)
    run = shop.run_file(freeze=["encoders.*"], steps=1)
    second = weights(shop.train(run), shop)
    for name, value in weights(first, shop).items():
        assert value.dtype != torch.bfloat16
        assert torch.equal(value, second[name]) == name.startswith("encoders.") or "prefix" in name


@pytest.mark.parametrize(("speed", "meant"), [(0.6, "float32"), (3.0, "bfloat16")])
def test_precision_is_chosen_by_how_fast_products_are_and_kept(shop, monkeypatch, speed, meant):
    def trained(precision, speed):
        monkeypatch.setattr(compute, "bfloat16_speed", lambda: speed)
        run = shop.run_file(steps=6)
        run["compute"]["precision"] = precision
        return shop.train(run)

    chosen = trained("auto", speed)
    assert f"precision: {meant}" in shop.lines
    assert equal(weights(chosen, shop), weights(trained(meant, 1 / speed), shop))
    assert reopen(chosen.folder.path, shop.host)[0].config.compute.precision == meant, "a resume takes it again, wherever it is"


def test_the_speed_of_products_is_measured():
    assert 0.02 < compute.bfloat16_speed() < 50


def test_compiled_layers_train_as_others(shop, monkeypatch):
    traced = torch.nn.Module.compile  # traced as for a compiler, which is left out: it would take half a minute
    monkeypatch.setattr(Layer, "compile", lambda self, **options: traced(self, backend="eager", **options))

    def trained(compiled):
        run = shop.run_file(steps=6)
        run["model"]["trunks"]["user"] = {"use": "transformer", "layers": 2, "heads": 2, "dropout": 0.0}
        run["compute"]["compile"] = compiled
        return weights(shop.train(run), shop)

    plain, compiled = trained(False), trained(True)
    assert "train: compute.compile: the first steps wait while 2 layers are compiled" in shop.lines
    assert plain.keys() == compiled.keys()
    for name, value in plain.items():
        torch.testing.assert_close(compiled[name], value, rtol=1e-4, atol=1e-5, msg=name)


def test_a_run_without_layers_says_that_nothing_is_compiled(shop):
    run = shop.run_file(steps=1)
    run["compute"]["compile"] = True
    shop.train(run)
    assert "train: compute.compile: no part of this run is a layer that can be compiled" in shop.lines


def test_early_stopping_puts_the_best_weights_back(shop):
    validate = {"every": 4, "metric": "loss", "patience": 2}
    result = shop.train(validate=validate, optimizer={"use": "adamw", "lr": {"from": 0.02, "to": 30.0, "over": 24}}, steps=60)
    seen = records(result, "valid")
    values = [r["value"] for r in seen]
    best = min(range(len(values)), key=values.__getitem__)
    assert [r["best"] for r in seen][best]
    assert len(values) == best + 3, "two validations after the best, then an end"
    shorter = shop.train(
        validate=validate, optimizer={"use": "adamw", "lr": {"from": 0.02, "to": 30.0, "over": 24}}, steps=seen[best]["step"]
    )
    assert equal(weights(result, shop), weights(shorter, shop))


def test_a_metric_of_an_evaluator_decides(shop):
    run = shop.run_file(validate={"every": 12, "metric": "recall@5", "max_queries": 40})
    run["evaluate"] = [{"use": "retrieval", "query": "user", "target": "item", "k": [5], "exclude_seen": False}]
    seen = records(shop.train(run), "valid")
    assert [r["step"] for r in seen] == [12, 24]
    assert all(0.0 <= r["value"] <= 1.0 and r["metrics"]["recall@5"] == r["value"] for r in seen)


def test_a_one_file_plugin_trains_with_a_teacher(shop, tmp_path):
    (tmp_path / "acme.py").write_text(ONE_FILE)
    assert len(ONE_FILE.strip().splitlines()) < 40
    host = shop.host_with(tmp_path / "acme.py")
    losses = [{"use": "sampled_softmax", "query": "user", "target": "item"}, {"use": "spread", "tower": "item", "network": "teacher"}]
    run = shop.run_file(losses=losses, networks={"teacher": {"kind": "ema", "momentum": 0.9}}, views=None, checkpoint_every=5)
    del run["stages"][0]["streams"]["ssl"]
    result = shop.train(run, host)
    assert records(result, "train")[-1]["losses"]["spread"] < records(result, "train")[0]["losses"]["spread"]
    load_bundle(result.bundle, shop.host.registry)  # a loss is not needed to use the bundle


@pytest.mark.parametrize("validate", [None, {"every": 8, "metric": "loss"}])
def test_a_stage_may_leave_the_teacher(shop, validate):
    """With a momentum of 1 the average is what the student was at the start, and with 0 what the student is at the end."""
    ends = {}
    for momentum, keep in ((1.0, True), (0.0, True), (0.0, False)):
        networks = {"teacher": {"kind": "ema", "momentum": momentum, "keep": keep}}
        bundle = load_bundle(shop.train(networks=networks, validate=validate).bundle, shop.host.registry)
        ends[momentum, keep] = bundle.model.state_dict()
    start = load_bundle(shop.train(steps=1, optimizer={"use": "sgd", "lr": 0.0}).bundle, shop.host.registry).model.state_dict()
    for name, weight in ends[1.0, True].items():
        torch.testing.assert_close(weight, start[name], rtol=0, atol=1e-6)
    for name, weight in ends[0.0, True].items():
        torch.testing.assert_close(weight, ends[0.0, False][name], rtol=0, atol=1e-6)
    assert any(not torch.allclose(ends[1.0, True][name], ends[0.0, True][name], atol=1e-3) for name in start)


def test_one_average_can_be_left(shop):
    two = {name: {"kind": "ema", "keep": True} for name in ("a", "b")}
    with pytest.raises(UsageError, match="networks a and b both say keep = true"):
        shop.train(networks=two)
    with pytest.raises(UsageError, match="keep = true is for kind = 'ema'"):
        shop.train(networks={"a": {"kind": "frozen", "bundle": "x", "keep": True}})


def test_an_interrupted_run_goes_on_to_the_same_weights(shop):
    whole = shop.train(checkpoint_every=100)

    class Stop:
        """Asks the run to stop at its second line of metrics, as a terminal would."""

        seen = 0

        def announce(self, hook, **_):
            if hook == "step_reported":
                Stop.seen += 1
                if Stop.seen == 2:
                    os.kill(os.getpid(), signal.SIGTERM)

    plan, folder = shop.launch(shop.run_file(checkpoint_every=100))
    announce, shop.host.announce = shop.host.announce, Stop().announce
    try:
        with pytest.raises(KeyboardInterrupt, match="stopped at step 12 of 24"):
            train_run(plan, folder, shop.host)
    finally:
        shop.host.announce = announce
    assert folder.state == "interrupted"
    plan, folder = reopen(folder.path, shop.host)
    assert plan.config.compute.data_path in ("memory", "stream"), "the data path that was chosen is written down"
    resumed = train_run(plan, folder, shop.host, resume=True, log=shop.lines.append)
    assert any("continuing from step 12" in line for line in shop.lines)
    assert equal(weights(whole, shop), weights(resumed, shop))
    clock = {"rows_per_second", "time"}
    without_pace = [[{k: v for k, v in r.items() if k not in clock} for r in records(one, "train")] for one in (whole, resumed)]
    assert without_pace[0] == without_pace[1]
    kept = folder.log.read_text().splitlines()
    assert [line.split("  ", 1)[1] for line in kept if re.match(r"\d{4}-\d\d-\d\dT", line)] == [
        "started",
        "interrupted",
        "resumed",
        "finished",
    ]
    assert sum(line.startswith("train step 12/24") for line in kept) == 1
    assert any(line.startswith("train step 24/24") for line in kept)


def test_a_log_holds_the_lines_that_were_said(shop):
    result = shop.train(steps=12)
    kept = result.folder.log.read_text().splitlines()
    assert kept[1:-1] == shop.lines


def test_a_log_says_what_a_run_died_of(shop):
    plan, folder = shop.launch(shop.run_file(optimizer={"use": "sgd", "lr": 1e30}, clip=None, steps=40, checkpoint_every=1))
    with pytest.raises(DataError):
        train_run(plan, folder, shop.host)
    assert re.search(r"failed: step \d+: the loss is no finite number", folder.log.read_text().splitlines()[-1])


def test_resuming_on_other_data_or_another_machine(shop):
    plan, folder = shop.launch(shop.run_file(steps=8, checkpoint_every=2))
    shop.host.announce = lambda hook, **_: os.kill(os.getpid(), signal.SIGTERM) if hook == "step_reported" else None
    with pytest.raises(KeyboardInterrupt):
        train_run(plan, folder, shop.host)
    del shop.host.announce
    shop.write(more=6)
    with pytest.raises(DataError, match="table 'items' had 60 rows when this run began and has 66 now"):
        train_run(*reopen(folder.path, shop.host), shop.host, resume=True)
    shop.write()
    state = max((folder.checkpoints / "stage-0").glob("step-*")) / "state.json"
    state.write_text(state.read_text().replace(f'"{torch.__version__}"', '"1.0"'))
    train_run(*reopen(folder.path, shop.host), shop.host, resume=True, log=shop.lines.append)
    assert any("torch was 1.0, is" in line for line in shop.lines)


def test_a_finished_stage_is_not_run_again(shop):
    result = shop.train(steps=6)
    before = weights(result, shop)
    again = train_run(*reopen(result.folder.path, shop.host), shop.host, resume=True, log=shop.lines.append)
    assert any("had ended" in line for line in shop.lines)
    assert equal(before, weights(again, shop))
    assert len(records(again, "train")) == 1


def test_a_warm_start_keeps_rows_of_old_items_and_adds_new_ones(shop):
    first = shop.train(steps=10)
    old = load_bundle(first.bundle, shop.host.registry)
    shop.write(more=18, seed=1)
    run = shop.run_file(steps=1, optimizer={"use": "sgd", "lr": 0.0})
    run["init_from"] = str(first.bundle)
    new = load_bundle(shop.train(run).bundle, shop.host.registry)
    ours, theirs = new.codecs.vocabularies["item"], old.codecs.vocabularies["item"]
    assert ours.size > theirs.size
    grown = [(n, w, old.model.state_dict()[n]) for n, w in new.model.state_dict().items() if w.shape != old.model.state_dict()[n].shape]
    assert grown, "the table of items has more rows"
    for _, now, then in grown:
        assert torch.equal(now[: len(then)], then)
    same = [n for n, w in new.model.state_dict().items() if w.shape == old.model.state_dict()[n].shape]
    assert all(torch.equal(new.model.state_dict()[n], old.model.state_dict()[n]) for n in same)
    run = shop.run_file(steps=1)
    run |= {"init_from": str(first.bundle)}
    run["model"]["head"] = {"use": "linear", "dim": 12}
    with pytest.raises(UsageError, match=r"init_from .*: '.*' has shape .* there and .* here"):
        shop.train(run)


def test_a_loss_that_is_no_number_is_told(shop):
    with pytest.raises(DataError, match=r"step \d+: the loss is no finite number .*try a lower lr"):
        shop.train(optimizer={"use": "sgd", "lr": 1e30}, clip=None, steps=40)


PAIRS = {"use": "sampled_softmax", "query": "user", "target": "item"}
VIEWS = {"use": "info_nce", "tower": "item", "views": ["a", "b"]}


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ({"validate": {"metric": "ndgc@10"}}, r"nothing reports 'ndgc@10'; there are loss"),
        ({"freeze": ["encodrs.*"]}, r"freeze: 'encodrs\.\*' names no parameter"),
        ({"losses": [{"use": "sampled_softmax", "query": "user", "target": "item"}]}, "no loss looks at stream 'ssl'"),
        ({"freeze": ["*"]}, "leaves no parameter to train"),
        (
            {"losses": [PAIRS | {"prefix_weights": [1.0, 0.5, 1.0]}, VIEWS]},
            r"losses\.0\.prefix_weights: found \[1\.0, 0\.5, 1\.0\], but its towers nest the widths 8, 16",
        ),
        (
            {"losses": [PAIRS, VIEWS | {"projector": [8], "prefix_weights": [1.0, 1.0]}]},
            "nest no widths that it learns",
        ),
    ],
)
def test_mistakes_in_a_stage_are_told(shop, stage, message):
    with pytest.raises(UsageError, match=message):
        shop.train(**stage)
    assert TrainConfig.model_fields.keys() >= stage.keys() - {"validate"}


def test_validation_needs_valid_rows(shop):
    run = shop.run_file(validate={"metric": "loss"})
    run["tables"]["events"]["split"]["valid"] = 0
    with pytest.raises(UsageError, match="table 'events' has no valid rows"):
        shop.train(run)


def test_validation_does_not_change_training(shop):
    plain = shop.train(steps=12)
    checked = shop.train(steps=12, validate={"every": 3, "metric": "loss"})
    assert [r["losses"] for r in records(plain, "train")] == [r["losses"] for r in records(checked, "train")]
    assert all(math.isfinite(r["value"]) for r in records(checked, "valid"))
