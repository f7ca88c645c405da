"""The guide to rows without labels: its run file, its variants, its second run and its Python, each trained for a few steps."""

from __future__ import annotations

import copy
import re
import tomllib
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import embedkit
from embedkit.training.report import MetricsFile

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "tabular.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", GUIDE, flags=re.MULTILINE | re.DOTALL)


BASE, RESNET, FREEZE, KEEP, START, PROBED = (tomllib.loads(text) for text in blocks("toml"))


def run_file(*changes: dict) -> dict:
    """The guide's run file with some of its changes, small."""
    run = copy.deepcopy(BASE)
    stages = {stage["name"]: stage for stage in run["stages"]}
    for change in changes:
        run["model"]["heads"] |= change.get("model", {}).get("heads", {})
        for name, options in change.get("stages", {}).items():
            stages[name] |= options
    run["model"] |= {"dim": 8, "trunk": run["model"]["trunk"] | {"layers": 1}}
    stages["learn"] |= {"steps": 5, "log_every": 1}
    stages["tune"] |= {"epochs": 4}
    for stage in run["stages"]:
        stage["streams"]["main"]["size"] = 40
    return run | {"compute": {"threads": 1, "device": "cpu"}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("people")
    draw = np.random.default_rng(0)
    rows = 500
    age, hours = draw.uniform(18, 70, rows), draw.uniform(10, 60, rows)
    rich = (age > 35) & (hours > 30)
    pl.DataFrame(
        {
            "id": range(rows),
            "age": age,
            "hours": hours,
            "gain": [None if i % 9 == 0 else float(x) for i, x in enumerate(draw.exponential(100, rows))],
            "job": draw.choice(["clerk", "cook", "nurse"], rows),
            "schooling": draw.choice(["some", "college"], rows),
            "income": ["high" if one else "low" for one in rich],
        }
    ).write_parquet(folder / "people.parquet")
    return folder


def train(folder, run):
    return embedkit.train(run, folder / "runs", base=folder)


def trunk(result):
    state = embedkit.load(result.bundle).bundle.model.state_dict()
    return np.concatenate([weight.flatten() for name, weight in state.items() if name.startswith("trunks.")])


@pytest.fixture(scope="module")
def first(folder):
    """The run file as it stands."""
    return train(folder, run_file())


def test_it_learns_and_tunes(first):
    assert set(first.metrics) >= {"accuracy", "log_loss"}
    assert [stage.steps > 0 for stage in first.stages] == [True, True]
    by = {one.model: one.value for one in first.estimates if one.metric == "log_loss"}
    assert by["model"] < by["constant"]


def test_each_change_does_what_it_says(folder, first):
    frozen, keeping = train(folder, run_file(FREEZE)), train(folder, run_file(FREEZE, KEEP))
    learned = run_file()
    del learned["stages"][1]
    learned = train(folder, learned)
    assert np.array_equal(trunk(frozen), trunk(learned))
    assert not np.array_equal(trunk(keeping), trunk(learned)), "the teacher lags behind the student"
    assert not np.array_equal(trunk(first), trunk(learned))
    heads = embedkit.load(train(folder, run_file(RESNET)).bundle).bundle.model.heads
    assert type(heads["predict"]).__name__ == "ResNetHead"


def test_labels_may_have_runs_of_their_own(folder):
    alone = run_file()
    del alone["stages"][1], alone["towers"]["predict"], alone["fields"]["income"], alone["evaluate"]
    del alone["model"]["shared_trunks"], alone["model"]["heads"]["predict"]
    learned = train(folder, alone)
    assert set(START) == {"init_from"}
    second = run_file(FREEZE) | {"init_from": str(learned.bundle)}
    del second["stages"][0]
    tuned = train(folder, second)
    assert np.array_equal(trunk(tuned), trunk(learned))
    assert tuned.metrics["accuracy"] > 0.5


def test_a_probe_ends_the_first_stage(folder):
    alone = run_file(PROBED) | {"evaluate": PROBED["evaluate"]}
    del alone["stages"][1], alone["towers"]["predict"], alone["model"]["shared_trunks"], alone["model"]["heads"]["predict"]
    alone["stages"][0] |= {"steps": 200}
    result = train(folder, alone)
    looks = [line["step"] for line in MetricsFile(result.folder.metrics).records() if line["kind"] == "valid"]
    assert looks == list(range(25, looks[-1] + 1, 25))
    assert {found.model for found in result.estimates} == {"model", "untrained", "raw", "boosted_tree"}
    assert result.stages[0].metrics["accuracy"] > 0.6


def test_the_three_runs_that_tell(folder, first):
    """Without the first stage; and plain columns under a trunk of their own."""
    from embedkit.evaluate.compare import compare

    drawn, plain = run_file(), run_file()
    del drawn["stages"][0], plain["stages"][0]
    del plain["model"]["shared_trunks"], plain["towers"]["row"], plain["model"]["heads"]["row"]
    plain["model"]["trunks"] = {"predict": {"use": "mlp"}}
    folders = [train(folder, run).folder.path for run in (drawn, plain)]
    for one in folders:
        assert {found.metric for found in compare([one, first.folder.path])} >= {"accuracy", "log_loss"}


def test_the_python_runs(folder, first, monkeypatch):
    monkeypatch.chdir(folder)
    (code,) = blocks("python")
    found: dict = {}
    exec(code.replace("runs/people-s0-001", str(first.folder.path)), found)
    assert found["vectors"].shape == (500, 5 * 8)
    assert found["logits"].shape == (500, 2)
    truth = pl.read_parquet("people.parquet")["income"].to_list()
    assert np.mean([a == b for a, b in zip(found["told"], truth, strict=True)]) > 0.6
