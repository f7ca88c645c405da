from __future__ import annotations

import datetime as dt
import tomllib
from pathlib import Path

import pytest

from embedkit.config.overrides import apply_overrides
from embedkit.errors import UsageError
from embedkit.tuning.space import Range, read_space, toml_value


def space_of(text: str, tmp_path: Path):
    path = tmp_path / "space.toml"
    path.write_text(text)
    return read_space(path)


def test_both_ways_of_writing_a_key(tmp_path):
    nested = space_of("stages.0.optimizer.lr = { low = 1e-4, high = 1e-2, log = true }\nmodel.dim = [32, 64]", tmp_path)
    quoted = space_of('"stages.0.optimizer.lr" = { low = 1e-4, high = 1e-2, log = true }\n"model.dim" = [32, 64]', tmp_path)
    headed = space_of("[stages.0.optimizer]\nlr = { low = 1e-4, high = 1e-2, log = true }\n[model]\ndim = [32, 64]", tmp_path)
    assert nested.options == quoted.options == headed.options
    assert nested.options == {"stages.0.optimizer.lr": Range(low=1e-4, high=1e-2, log=True), "model.dim": (32, 64)}


def test_keys_that_need_quotes_keep_them(tmp_path):
    assert list(space_of('model.trunks."my tower".layers = [1, 2]', tmp_path).options) == ['model.trunks."my tower".layers']


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names no option"),
        ("model.dim = []", "model.dim: the list is empty"),
        ("model.dim = 3", "model.dim: found 3, wanted a list of values"),
        ("model.dim = [8, 8]", "model.dim: the list holds a value twice"),
        ("model.dim = [2024-01-01]", "model.dim: .* is no value that can be tried"),
        ("model.dim = {}", "model.dim.high: is required"),
        ("model.dim = { low = 1 }", "model.dim.high: is required"),
        ("model.dim = { low = 8, high = 8 }", "model.dim: low = 8 is not below high = 8"),
        ("model.dim = { low = 0, high = 8, log = true }", "low = 0 has no logarithm"),
        ("model.dim = { low = 1.0, high = 8.0, log = true, step = 1.0 }", "log and step do not go together"),
        ("model.dim = { low = 1.5, high = 8, int = true }", "int = true wants whole numbers"),
        ("model.dim = { low = 1, high = 8, stepp = 2 }", "unknown key 'stepp'; did you mean 'step'"),
        ('model.dim = { low = "a", high = 8 }', "model.dim.low: found 'a', wanted a number"),
        ("model.dim = { low = nan, high = 8 }", "model.dim.low: found nan, wanted a finite number"),
        ("seed = [1, 2]", "seed: 'seed' cannot be tuned: it is the same in all trials"),
        ("evaluate.0.k = [[5], [10]]", "'evaluate' cannot be tuned: it is what trials are judged by"),
        ('evaluate_on = ["test", "valid"]', "'evaluate_on' cannot be tuned: it says what is measured after training"),
        ("tables.events.where = ['a > 1']", "'tables' cannot be tuned"),
        ('model.dim = [8]\n"model.dim" = [16]', "model.dim: stands here twice"),
    ],
)
def test_what_is_wrong_is_one_sentence(text, message, tmp_path):
    with pytest.raises(UsageError, match=message) as caught:
        space_of(text, tmp_path)
    assert str(tmp_path / "space.toml") in str(caught.value)
    assert str(caught.value).count("\n") == (text == "model.dim = {}")  # a line each


def test_ranges_written_as_whole_numbers_are_whole():
    assert Range.model_validate({"low": 1, "high": 8}).probes() == [1, 4, 8]
    assert [type(one) for one in Range.model_validate({"low": 1, "high": 8}).probes()] == [int] * 3
    assert Range.model_validate({"low": 1.0, "high": 8.0}).probes() == [1.0, 4.5, 8.0]
    assert not Range.model_validate({"low": 1, "high": 8, "int": False}).whole
    assert not Range.model_validate({"low": 0, "high": 1, "step": 0.5}).whole
    assert Range.model_validate({"low": 1e-4, "high": 1e-2, "log": True}).probes() == pytest.approx([1e-4, 1e-3, 1e-2])


def test_a_grid_holds_every_combination():
    space = read_space({"a": [True, "x"], "b": {"low": 0.0, "high": 0.3, "step": 0.1}, "c": {"low": 2, "high": 3}})
    grid = space.grid()
    assert len(grid) == 2 * 4 * 2
    assert grid[0] == {"a": True, "b": 0.0, "c": 2}
    assert [one["b"] for one in grid[:8:2]] == pytest.approx([0.0, 0.1, 0.2, 0.3])
    with pytest.raises(UsageError, match="b: a grid wants a list of values or a range with a step"):
        read_space({"b": {"low": 0.0, "high": 0.3}}).grid()
    with pytest.raises(UsageError, match="more than 100,000 combinations"):
        read_space({"a": {"low": 1, "high": 1000}, "b": {"low": 1, "high": 1000}}).grid()


@pytest.mark.parametrize(
    "value", [True, 3, -0.5, 1e-5, float("inf"), 'a "word"\n', "ä\x7f", [1, [2, 3]], {"from": 0.1, "a b": [{"c": "d"}]}, {}, []]
)
def test_values_come_back_from_a_line_of_toml(value):
    assert tomllib.loads(f"value = {toml_value(value)}")["value"] == value
    data: dict = {}
    apply_overrides(data, [f"a.b={toml_value(value)}"])
    assert data == {"a": {"b": value}}


def test_dates_are_no_values():
    with pytest.raises(UsageError, match="no value that can be tried"):
        toml_value(dt.date(2024, 1, 1))
