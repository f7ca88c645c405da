"""The guide to self-supervision for items: its run file, its five arms and its schedules, each trained for a few steps."""

from __future__ import annotations

import copy
import re
import tomllib
from itertools import combinations
from pathlib import Path

import pytest
import torch

import embedkit
from embedkit.bundle import load_bundle
from embedkit.evaluate.run import read_evaluation
from embedkit.host import Host
from embedkit.training.report import MetricsFile

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "ssl-items.md").read_text(encoding="utf-8")
BASE, SCHEDULES, EVALUATE = (tomllib.loads(text) for text in re.findall(r"^```toml\n(.*?)^```", GUIDE, flags=re.MULTILINE | re.DOTALL))
TABLE = dict(re.findall(r"^\| ([^|]+?) \| ([^|]+?) \|$", GUIDE, flags=re.MULTILINE))


def run_file() -> dict:
    run = {"format": 1, "name": "ssl", "seed": 1} | copy.deepcopy(BASE) | {"evaluate": copy.deepcopy(EVALUATE["evaluate"])}
    run["model"] = {"dim": 16}
    run["compute"] = {"threads": 1, "device": "cpu"}
    del run["stages"][0]["epochs"]
    run["stages"][0] |= {"steps": 5, "log_every": 1}
    for stream in run["stages"][0]["streams"].values():
        stream["size"] = 32
    return run


def arm(name: str) -> dict:
    """The guide's run file with the change that its table names for an arm."""
    run = run_file()
    stage, said = run["stages"][0], re.findall(r"`([^`]+)`", TABLE[name])
    second = stage["losses"][1]
    if name == "none":
        second |= tomllib.loads(said[0])
    elif name == "spread-out":
        del second["views"], second["symmetric"], stage["views"]
        second |= tomllib.loads("\n".join(said[:2]))
    elif name == "random masking":
        stage["views"][0] |= tomllib.loads(said[0])
    elif name.startswith("correlated masking,"):
        stage["streams"] |= tomllib.loads(said[0])
        stage["streams"]["ssl"]["size"] = 32
    return run


@pytest.fixture
def trained(shop):
    shop.write()

    def train(run: dict):
        result = embedkit.train(run, shop.folder / "runs", base=shop.folder)
        model = load_bundle(result.bundle, Host.load().registry).model
        weights = torch.cat([p.detach().flatten() for _, p in sorted(model.named_parameters())])
        return weights, MetricsFile(result.folder.metrics).records(), read_evaluation(result.folder)["estimates"]

    return train


def test_each_arm_trains_and_differs_from_the_others(trained):
    arms = [name for name in TABLE if name != "Arm" and not name.startswith("-")]
    assert arms == ["none", "spread-out", "random masking", "correlated masking", "correlated masking, log-distributed items"]
    found = {name: trained(arm(name)) for name in arms}
    for first, second in combinations(arms, 2):
        assert not torch.equal(found[first][0], found[second][0]), (first, second)
    for name, (_, records, estimates) in found.items():
        names = set(next(one["losses"] for one in records if one["kind"] == "train"))
        assert {"sampled_softmax", "spread_out" if name == "spread-out" else "info_nce"} <= names
        assert "cold:no" in {one["slice"] for one in estimates}  # every item of this shop is sold often, and histories are long


def test_without_the_second_loss_is_the_same_as_with_weight_zero(trained):
    run = run_file()
    stage = run["stages"][0]
    del stage["views"], stage["losses"][1], stage["streams"]["ssl"]
    torch.testing.assert_close(trained(run)[0], trained(arm("none"))[0], rtol=1e-4, atol=1e-6)


def test_weight_and_temperature_follow_their_schedules(trained):
    def losses(**second):
        run = run_file()
        run["stages"][0]["losses"][1] |= SCHEDULES | second
        run["stages"][0]["optimizer"] = {"use": "adamw", "lr": 1e-9}  # what changes is the schedule, not the model
        return [one["losses"] for one in trained(run)[1] if one["kind"] == "train"]

    found, constant = losses(), losses(temperature=SCHEDULES["temperature"]["from"])
    weights = [(one["loss"] - one["sampled_softmax"]) / one["info_nce"] for one in found]
    assert weights[0] == pytest.approx(0.0, abs=1e-4)
    assert weights[-1] == pytest.approx(0.2, abs=1e-4)
    assert found[0]["info_nce"] == pytest.approx(constant[0]["info_nce"], rel=1e-5)
    assert found[-1]["info_nce"] != pytest.approx(constant[-1]["info_nce"], rel=1e-3)
