from __future__ import annotations

import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from embedkit.config.load import load_run, parse_run
from embedkit.config.messages import problems
from embedkit.config.model import TrainConfig
from embedkit.config.overrides import apply_overrides
from embedkit.errors import UsageError

WRONG = {
    "seed=-1": "seed: found -1, wanted a number greater than or equal to 0",
    "seed='x'": "seed: found 'x', wanted a whole number",
    "sed=3": "sed: unknown key 'sed'; did you mean 'seed'?",
    "format=2": "format: found 2, wanted 1",
    "tables.items.kee=3": "tables.items.kee: unknown key 'kee'; did you mean 'key'?",
    "tables.items.uri=3": "tables.items.uri: found 3, wanted a string or a list",
    "tables.events.split.by='tim'": "wanted 'time', 'position', 'hash' or 'column'; did you mean 'time'?",
    "tables.events.split.bye='time'": "tables.events.split.bye: unknown key 'bye'; did you mean 'by'?",
    "fields.a={tabel='items', type='number'}": "fields.a.table: is required and is not there; is it meant by 'tabel'?",
    "compute.data_path='mem'": "compute.data_path: found 'mem', wanted 'auto', 'memory' or 'stream'; did you mean 'memory'?",
    "model.trunk='mlp'": "model.trunk: found 'mlp', wanted a table",
    "name='a b'": "name: found 'a b', wanted a string of the form",
    "towers={}": "towers: found an empty table, wanted at least 1 entry",
    "resolved={}": "resolved: this is the resolved file of a run",
}


@pytest.mark.parametrize("override", WRONG)
def test_what_is_wrong_is_said_with_its_place(override, run_text, tmp_path):
    path = tmp_path / "run.toml"
    path.write_text(run_text)
    with pytest.raises(UsageError) as caught:
        load_run(path, [override])
    assert WRONG[override] in str(caught.value)
    assert str(path) in str(caught.value)


def test_all_problems_are_told_at_once(run_text):
    data = tomllib.loads(run_text)
    apply_overrides(data, ["sed=3", "seed='x'", "tables.items.kee=1"])
    with pytest.raises(UsageError) as caught:
        parse_run(data)
    assert len(str(caught.value).splitlines()) == 3


STAGE = {"epochs": 1, "streams": {"main": {"table": "items"}}, "losses": [{"use": "x"}]}
STAGES = [
    ({"losses": [{"use": "x", "weight": "a"}]}, "losses.0.weight: found 'a', wanted a number or a table"),
    (
        {"losses": [{"use": "x", "weight": {"from": 1, "to": 2, "shap": 3}}]},
        "losses.0.weight.shap: unknown key 'shap'; did you mean 'shape'?",
    ),
    ({"losses": [{"use": "x", "weight": {"from": 1, "to": 2, "shape": "cosin"}}]}, "did you mean 'cosine'?"),
    ({"validate": {"evry": 3}}, "validate.evry: unknown key 'evry'; did you mean 'every'?"),
    ({"validate": {"every": "epok"}}, "validate.every: found 'epok', wanted a whole number or 'epoch'"),
    ({"steps": 3}, "give either 'epochs' or 'steps'"),
]


@pytest.mark.parametrize(("change", "message"), STAGES, ids=[message for _, message in STAGES])
def test_unions_and_tables_deep_in_a_stage_are_told_in_one_sentence(change, message):
    with pytest.raises(ValidationError) as caught:
        TrainConfig.model_validate(STAGE | change)
    (line,) = problems(caught.value, TrainConfig, where="run.toml: stages.0")
    assert line.startswith("run.toml: stages.0")
    assert message in line


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"a = ", "is no TOML"), (b"\xff\xfe", "is not UTF-8"), (None, "there is no such file"), ("folder", "is a folder")],
)
def test_a_file_that_cannot_be_read(content, message, tmp_path):
    path = tmp_path / "run.toml"
    if content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=message) as caught:
        load_run(path)
    assert "\n" not in str(caught.value)


def test_overrides_create_change_append_and_find_by_name():
    data = {"stages": [{"use": "train", "losses": [{"use": "a"}, {"use": "b", "name": "second"}]}]}
    apply_overrides(
        data,
        [
            "model.dim=32",
            "stages.0.epochs=2.5",
            "stages.train.losses.second.weight=0.5",
            "stages.0.losses.2={use='c'}",
            "index.use=exact",
            "tables.items.split.valid=7d",
            'fields."a.b".type=number',
            "evaluate.0.use=retrieval",
        ],
    )
    assert data == {
        "stages": [{"use": "train", "epochs": 2.5, "losses": [{"use": "a"}, {"use": "b", "name": "second", "weight": 0.5}, {"use": "c"}]}],
        "model": {"dim": 32},
        "index": {"use": "exact"},
        "tables": {"items": {"split": {"valid": "7d"}}},
        "fields": {"a.b": {"type": "number"}},
        "evaluate": [{"use": "retrieval"}],
    }


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed", "write KEY=VALUE"),
        ("=3", "write KEY=VALUE"),
        ("a..b=3", "is no key path"),
        ("#=3", "is no key path"),
        ("a=1\nb=2", "is no TOML value"),
        ("a=[1,", "is no TOML value"),
        ("stages.9.use=x", "index 9 is out of range"),
        ("stages.trian.use=x", "give an index, not 'trian'; did you mean 'train'?"),
        ("seed.x=1", "seed is the value 1, so nothing can stand under it"),
    ],
)
def test_overrides_that_lead_nowhere(override, message):
    with pytest.raises(UsageError) as caught:
        apply_overrides({"seed": 1, "stages": [{"use": "train"}]}, [override])
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"--set {override}: ")


@settings(max_examples=60, deadline=None)
@given(st.text(), st.text())
def test_any_override_either_works_or_is_a_usage_error(key, value):
    given = {"a": [1], "b": {"c": 2}}
    said = ""
    try:
        apply_overrides(given, [f"{key}={value}"])
    except UsageError as error:
        said = str(error)
    assert said.startswith("--set ") if said else {"a", "b"} <= set(given)
