from __future__ import annotations

import json
import tomllib

import pytest


@pytest.fixture
def run(shop, embedkit):
    answer = embedkit("init", shop / "items.parquet", shop / "events.parquet", "--out", shop / "run.toml", "--name", "shop")
    assert answer.code == 0, answer.err
    return shop / "run.toml"


def test_init_does_not_overwrite_unless_forced(run, embedkit):
    again = embedkit("init", run.parent / "items.parquet", "--out", run)
    assert again.code == 2
    assert "is there already" in again.err
    assert embedkit("init", run.parent / "items.parquet", "--out", run, "--force").code == 0


def test_check_says_what_a_run_means(run, embedkit):
    answer = embedkit("config", "check", run)
    assert answer.code == 0, answer.err
    assert "is well" in answer.out
    assert "(history)" in answer.out


def test_check_shows_all_problems_with_file_and_key_path(run, embedkit):
    answer = embedkit("config", "check", run, "--set", "towers.item=['titel']", "--set", "evaluate.0.use=retreival")
    assert answer.code == 2
    first, second = answer.err.splitlines()
    assert "towers.item: there is no field 'titel'; did you mean 'title'?" in first
    assert "evaluate.0.use: there is no evaluator called 'retreival'; did you mean 'retrieval'?" in second
    assert str(run) in first


def test_check_prints_the_resolved_file(run, embedkit):
    resolved = tomllib.loads(embedkit("config", "check", run, "--resolved").out)
    assert resolved["resolved"]["plugins"]["tabular"]["distribution"] == "embedkit"
    assert resolved["stages"][0]["use"] == "training:train"


def test_schema_knows_components_and_their_options(embedkit):
    schema = json.loads(embedkit("config", "schema").out)
    loss = schema["$defs"]["options-loss-itemrec-sampled_softmax"]
    assert {"query", "target", "weight", "use"} <= set(loss["properties"])
    assert loss["additionalProperties"] is False


def test_runs_lists_nothing_where_there_is_nothing(tmp_path, embedkit):
    assert embedkit("runs", "--runs-dir", tmp_path).out == f"no runs in {tmp_path}\n"
    assert json.loads(embedkit("runs", "--runs-dir", tmp_path, "--json").out) == []
