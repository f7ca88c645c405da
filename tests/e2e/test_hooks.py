"""When each hook is called, and with what: a plugin that has them all writes it down."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from embedkit.testing.command import call, untouched

WATCHER = Path(__file__).parent / "plugins" / "watcher.py"
TO_LOAD = {"register_field_types", "register_encoders", "register_trunks", "register_heads"}


@pytest.fixture
def watch(shop, tmp_path, monkeypatch):
    """Run a command with the watcher; what it wrote down."""
    monkeypatch.setenv("WATCHED", str(tmp_path / "watched"))

    def run(*arguments):
        (tmp_path / "watched").write_text("")
        answer = call("-p", WATCHER, *arguments)
        return answer, [json.loads(line) for line in (tmp_path / "watched").read_text().splitlines()]

    return run


def names(notes):
    return [note["hook"] for note in notes]


def test_a_run_calls_the_hooks_of_its_components_and_moments(shop, watch):
    shop.write()
    answer, notes = watch("train", "run.toml", "--set", "model.dim=8", "--threads", "1", "--set", "stages.0.log_every=1")
    answer.ok()
    registered = [name for name in names(notes) if name.startswith("register_")]
    assert len(registered) == len(set(registered)), "once a kind"
    assert TO_LOAD | {"register_losses", "register_samplers", "register_optimizers", "register_stages"} <= set(registered)
    assert "register_datasets" not in registered
    checked = next(note for note in notes if note["hook"] == "check_config")
    assert checked["name"] == "shop"
    assert "sampled_softmax" in checked["losses"]
    assert [note["step"] for note in notes if note["hook"] == "step_reported"] == [1, 2]
    assert all("sampled_softmax" in note["losses"] for note in notes if note["hook"] == "step_reported")
    assert notes[-2:] == [
        {"hook": "stage_finished", "stage": "train", "steps": 2},
        {"hook": "run_finished", "run": "shop-s0-001", "error": None},
    ]


def test_a_run_that_fails_is_told_too(shop, watch):
    shop.write(edits={"size = 16": "size = 400"})
    answer, notes = watch("train", "run.toml")
    sentence = answer.refused("larger than the data")
    assert notes[-1] == {"hook": "run_finished", "run": "shop-s0-001", "error": sentence.removeprefix("embedkit: ")}


def test_problems_of_a_plugin_stop_a_run_before_it_starts(shop, watch):
    shop.write()
    with untouched(shop.folder):
        answer, notes = watch("train", "run.toml", "--set", "name=unlucky")
    assert answer.code == 2
    assert answer.err.splitlines() == [
        "embedkit: run.toml: name: brings bad luck; choose another",
        "embedkit: run.toml: seed: so does this",
    ]
    assert "run_finished" not in names(notes)


def test_a_search_calls_only_what_loads_a_bundle_and_an_index(way, watch):
    answer, notes = watch("search", way.index, "--text", "hat", "-k", 2)
    answer.ok()
    assert set(names(notes)) == TO_LOAD | {"register_indexes"}


def test_other_kinds_are_asked_for_when_they_are_listed(watch):
    assert names(watch("data", "list")[1]) == ["register_datasets"]
    assert names(watch("components", "augmentation")[1]) == ["register_augmentations"]
    assert names(watch("components", "evaluator")[1]) == ["register_evaluators"]


def test_a_plugin_adds_a_command(watch):
    answer, notes = watch("greet")
    assert answer.ok().out == "hello\n"
    assert names(notes) == ["register_commands"]
    assert "Say hello." in watch("--help")[0].ok().out
