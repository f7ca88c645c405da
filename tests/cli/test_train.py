from __future__ import annotations

import json

import pytest

from embedkit.host import Host
from embedkit.launch import prepare, reopen, unfinished
from embedkit.runs import RunFolder


@pytest.fixture
def run(shop, embedkit):
    assert embedkit("init", shop / "items.parquet", shop / "events.parquet", "--out", shop / "run.toml", "--name", "shop").code == 0
    return shop / "run.toml"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "name a run file"),
        (("--resume",), "name the run file, or the run's folder"),
        (("--resume", "nowhere"), "there is no such run folder"),
        (("--resume", "nowhere", "--set", "seed=1"), "leave --set and --seeds out"),
        (("run.toml", "--device", "tpu"), "there is no such file"),
    ],
)
def test_what_cannot_be_trained(arguments, message, embedkit, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    answer = embedkit("train", *arguments)
    assert answer.code == 2
    assert message in answer.err
    assert not list(tmp_path.iterdir())


def test_a_run_file_that_is_wrong_leaves_nothing_behind(run, embedkit):
    answer = embedkit("train", run, "--set", "stages.0.losses.0.query=usr", "--runs-dir", run.parent / "runs")
    assert answer.code == 2
    assert "stages.0.losses.0.query: there is no tower 'usr'; did you mean 'user'?" in answer.err
    assert not (run.parent / "runs").exists()


def test_a_folder_keeps_the_file_as_written_and_as_resolved(run, tmp_path):
    host = Host.load()
    folder = prepare(run, host).create_folder(tmp_path / "runs")
    assert folder.run.read_text() == run.read_text()
    folder.set_status("interrupted")
    plan, again = reopen(folder.path, host, compute={"threads": 1})
    assert again == folder
    assert plan.config.compute.threads == 1
    assert plan.model == prepare(run, host).plan.model
    changed = prepare(run, host, overrides=["model.dim=8"], seed=5).create_folder(tmp_path / "runs")
    assert changed.path.name == "shop-s5-001"
    assert "dim = 8" in changed.run.read_text()


def test_the_newest_unfinished_run_is_found(run, tmp_path, embedkit):
    root = tmp_path / "runs"
    for number, state in enumerate(("interrupted", "failed", "finished")):
        RunFolder.create(root, "shop", 0).set_status(state, started=f"2024-01-0{number + 1}")
    assert unfinished(root, "shop", 0) == root / "shop-s0-002"
    answer = embedkit("train", run, "--resume", "--runs-dir", tmp_path / "none")
    assert answer.code == 2
    assert "no run of 'shop' with seed 0 is left to resume" in answer.err


def test_runs_are_listed_with_the_split_of_their_figures(tmp_path, embedkit):
    folder = RunFolder.create(tmp_path, "shop", 0)
    folder.set_status("finished")
    one = {"metric": "ndcg@10", "model": "model", "slice": None, "prefix": None}
    folder.evaluation.write_text(
        json.dumps({"estimates": [one | {"split": "valid", "value": 0.5}, one | {"split": "test", "value": 0.25}]})
    )
    assert "test: ndcg@10 0.2500; valid: ndcg@10 0.5000" in embedkit("runs", "--runs-dir", tmp_path).out


def test_a_trial_step_finds_what_only_data_can_tell(run, embedkit):
    assert embedkit("config", "check", run, "--step").code == 0
    wrong = embedkit("config", "check", run, "--step", "--set", "fields.price.column=prize")
    assert wrong.code == 2
    assert "prize" in wrong.err
    assert embedkit("config", "check", run, "--set", "fields.price.column=prize").code == 0
