"""Whole tunings on a small shop: what they leave, how they go on, what they refuse."""

from __future__ import annotations

import json
import random
from pathlib import Path

import polars as pl
import pytest

import embedkit
from embedkit.errors import DataError, UsageError
from embedkit.runs import RunFolder
from embedkit.testing import kills
from embedkit.training.report import MetricsFile
from embedkit.tuning.space import Range, Space
from embedkit.tuning.study import Study
from embedkit.tuning.trials import Objective, Pruned, short_names

CHILD = "import embedkit; embedkit.tune(folder + '/run.toml', folder + '/space.toml', folder + '/killed', trials=3, seed=1)"


def gist(result) -> list[tuple]:
    return [(trial.number, trial.state, trial.value, dict(trial.options)) for trial in result.trials]


def test_three_trials_and_then_two_more(shop: Path) -> None:
    lines: list[str] = []
    result = embedkit.tune(shop / "run.toml", shop / "space.toml", shop / "tuned", trials=3, seed=1, log=lines.append)
    assert [trial.state for trial in result.trials] == ["finished"] * 3
    assert (result.metric, result.mode) == ("ndcg@5", "max")
    assert result.best.value == max(trial.value for trial in result.trials)
    for trial in result.trials:
        assert 1e-4 <= trial.options["stages.0.optimizer.lr"] <= 0.1
        assert trial.options["model.dim"] in (8, 16)
        valid = [one["value"] for one in MetricsFile(RunFolder(trial.run).metrics).records() if one["kind"] == "valid"]
        assert trial.value == max(valid)
        assert not RunFolder(trial.run).evaluation.exists()  # the test split is not measured
        assert RunFolder(trial.run).bundle.is_dir() == (trial.number == result.best.number)
    table = pl.read_parquet(result.table)
    assert table["value"].to_list() == [trial.value for trial in result.trials]
    assert table["model.dim"].dtype == pl.Int64
    assert any(line.startswith("trial 2 of 3: dim = ") and ", lr = " in line for line in lines)

    again = embedkit.tune(shop / "run.toml", shop / "space.toml", shop / "tuned", trials=3, seed=1)
    assert gist(again) == gist(result)
    more = embedkit.tune(shop / "run.toml", shop / "space.toml", shop / "tuned", trials=5, seed=1)
    assert gist(more)[:3] == gist(result)
    assert len(more.trials) == 5


def test_the_best_run_file_trains_to_the_same_figure(shop: Path) -> None:
    result = embedkit.tune(shop / "run.toml", shop / "space.toml", shop / "deep" / "tuned", trials=2)
    trained = embedkit.train(result.best_run, shop / "runs")
    assert trained.stages[0].metrics == {"ndcg@5": result.best.value}
    assert "ndcg@5" in trained.metrics  # a run of its own is measured on the test split
    assert f"number {result.best.number}" in result.best_run.read_text().split("\n")[0]
    figures = embedkit.api.evaluate(result.best.run)
    assert [one.value for one in figures if one.model == "model" and one.metric == "ndcg@5" and one.slice is None] == [
        pytest.approx(trained.metrics["ndcg@5"])
    ]


@pytest.mark.slow
def test_a_killed_tuning_goes_the_way_of_an_uninterrupted_one(shop: Path) -> None:
    whole = embedkit.tune(shop / "run.toml", shop / "space.toml", shop / "whole", trials=3, seed=1)
    draw = random.Random(0)
    for number in (1, 2):
        process = kills.start(CHILD, folder=str(shop))
        steps = shop / "killed" / "trials" / f"{number:03d}" / "checkpoints" / "stage-0"
        assert kills.kill(process, after=draw.random() * 0.05, ready=lambda steps=steps: any(steps.glob("step-*")))
    (shop / "killed" / "study.journal.lock").symlink_to("nobody")  # what a kill may leave
    with (shop / "killed" / "study.journal").open("ab") as file:
        file.write(b'{"op_co')
    resumed = embedkit.tune(shop / "run.toml", shop / "space.toml", shop / "killed", trials=3, seed=1)
    assert gist(resumed) == gist(whole)


def test_an_interrupt_leaves_the_trial_to_be_gone_on_with(shop: Path) -> None:
    def stop(line: str) -> None:
        if line.startswith("  train step 12  valid"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embedkit.tune(shop / "run.toml", shop / "space.toml", shop / "tuned", trials=1, log=stop)
    assert not (shop / "tuned" / "best.toml").exists()
    lines: list[str] = []
    result = embedkit.tune(shop / "run.toml", shop / "space.toml", shop / "tuned", trials=1, log=lines.append)
    assert any("continuing from step 10" in line for line in lines)
    assert len(result.trials) == 1
    other = embedkit.tune(shop / "run.toml", shop / "space.toml", shop / "other", trials=1)
    assert gist(other) == gist(result)


def test_a_grid_is_tried_whole_and_in_order(shop: Path) -> None:
    space = {"model.dim": [8, 16], "stages.0.losses.0.temperature": {"low": 0.1, "high": 0.2, "step": 0.1}}
    result = embedkit.tune(shop / "run.toml", space, shop / "tuned", sampler="grid", keep="all")
    found = [(trial.options["model.dim"], trial.options["stages.0.losses.0.temperature"]) for trial in result.trials]
    assert found == [(8, 0.1), (8, 0.2), (16, 0.1), (16, 0.2)]
    assert all(RunFolder(trial.run).bundle.is_dir() for trial in result.trials)


def test_options_that_cannot_be_trained_make_a_failed_trial(shop: Path) -> None:
    space = {
        "model.head": [{"use": "linear"}, {"use": "matryoshka", "dims": [4, 8]}],
        "model.heads.user": [{"use": "linear", "dim": 4}, {"use": "linear", "dim": 8}],
    }
    result = embedkit.tune(shop / "run.toml", space, shop / "tuned", sampler="grid")
    states = [trial.state for trial in result.trials]
    assert states == ["failed", "finished", "failed", "finished"]
    assert result.trials[0].error
    assert not result.trials[0].run.exists()
    assert pl.read_parquet(result.table)["error"].to_list() == [trial.error for trial in result.trials]


def test_losing_trials_are_ended_early(tmp_path: Path) -> None:
    def study() -> Study:
        space = Space({"x": Range(low=0.0, high=1.0)})
        return Study(tmp_path, space, Objective(1, "loss", "min"), sampler="random", seed=0, prune=True)

    one = study()
    for _ in range(5):
        number = one.next().number
        one.onlooker(number)(1, {"step": 10, "value": 1.0})
        one.finish(number, 1.0)
    last = study().next().number
    look = study().onlooker(last)
    look(0, {"step": 10, "value": 9.0})  # another stage's
    look(1, {"step": 5, "value": 9.0})  # nobody else was measured there
    look(1, {"step": 10, "value": None})
    with pytest.raises(Pruned, match=r"ended at step 10: loss 2\.0000 is worse than the median"):
        look(1, {"step": 10, "value": 2.0})
    with pytest.raises(Pruned):
        study().onlooker(last)(1, {"step": 10, "value": 2.0})  # a trial that was killed there comes by again
    study().prune(last)
    trials = study().trials()
    assert [trial.state for trial in trials] == ["finished"] * 5 + ["pruned"]
    assert study().best() == trials[0]


def test_a_pruned_trial_ends_its_run(shop: Path, run: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    import optuna

    monkeypatch.setattr(
        optuna.pruners.MedianPruner, "prune", lambda self, study, trial: trial.number == 1 and 12 in trial.intermediate_values
    )
    result = embedkit.tune(run, {"model.dim": [8, 16]}, shop / "tuned", sampler="grid", prune=True, base=shop)
    assert [trial.state for trial in result.trials] == ["finished", "pruned"]
    records = MetricsFile(RunFolder(result.trials[1].run).metrics).records()
    assert [one["step"] for one in records if one["kind"] == "valid"] == [6, 12]
    assert result.best.number == 1


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"stages.0.optimzer.lr": [0.1]}, "unknown key 'optimzer'.*did you mean 'optimizer'"),
        ({"stages.0.optimizer.lrr": [0.1]}, "stages.0.optimizer.lrr: unknown key 'lrr'.*did you mean 'lr'"),
        ({"stages.0.losses.sampled_sftmax.temperature": [0.1]}, "stages.0.losses is a list.*did you mean 'sampled_softmax'"),
        ({"stages.4.steps": [1]}, "index 4 is out of range"),
        ({"model.dim": [8, "wide"]}, "model.dim = \"wide\": model.dim: found 'wide', wanted a whole number"),
        ({"model.dim": {"low": 8.0, "high": 16.0, "log": True}}, "found 11.*, wanted a whole number"),
        ({"stages.0.validate.metric": ["ndcg@5", "loss"]}, "changes what trials are judged by"),
        ({"stages.0.validate.max_queries": [10]}, "changes what trials are judged by"),
    ],
)
def test_a_space_that_does_not_fit_is_told_before_anything_is_trained(shop: Path, space: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        embedkit.tune(shop / "run.toml", space, shop / "tuned", trials=2)
    assert not (shop / "tuned").exists()


def test_a_run_that_cannot_be_tuned(shop: Path, run: dict) -> None:
    with pytest.raises(UsageError, match=r"say how many trials there are to be \(--trials\)"):
        embedkit.tune(run, {"model.dim": [8]}, shop / "tuned", base=shop)
    with pytest.raises(UsageError, match="0 trials are none"):
        embedkit.tune(run, {"model.dim": [8]}, shop / "tuned", base=shop, trials=0)
    run["fields"]["item_id"]["column"] = "item"
    with pytest.raises((UsageError, DataError), match="item"):
        embedkit.tune(run, {"model.dim": [8]}, shop / "tuned", base=shop, trials=1)
    del run["fields"]["item_id"]["column"], run["stages"][0]["validate"]
    with pytest.raises(UsageError, match="no stage validates, so there is nothing to tune by"):
        embedkit.tune(run, {"model.dim": [8]}, shop / "tuned", base=shop, trials=1)
    assert not (shop / "tuned").exists()


def test_a_folder_belongs_to_one_tuning(shop: Path, run: dict) -> None:
    embedkit.tune(run, {"model.dim": [8]}, shop / "tuned", base=shop, trials=1)
    with pytest.raises(UsageError, match="was begun with another space; name a new folder"):
        embedkit.tune(run, {"model.dim": [16]}, shop / "tuned", base=shop, trials=1)
    with pytest.raises(UsageError, match="was begun with another run and another seed"):
        embedkit.tune(run | {"seed": 9}, {"model.dim": [8]}, shop / "tuned", base=shop, trials=1, seed=2)
    run["compute"] = {"device": "cpu", "threads": 2}
    assert embedkit.tune(run, {"model.dim": [8]}, shop / "tuned", base=shop, trials=1).best.number == 1
    with pytest.raises(UsageError, match="holds something else than a tuning"):
        embedkit.tune(run, {"model.dim": [8]}, shop, base=shop, trials=1)
    assert not (shop / ".lock").exists()


def test_without_optuna_the_extra_is_named(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UsageError, match=r'pip install "embedkit\[tune\]"'):
        embedkit.tune(shop / "run.toml", shop / "space.toml", shop / "tuned", trials=1)


def test_several_processes_are_refused(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embedkit.nn.gather.world", lambda: 2)
    with pytest.raises(UsageError, match="a tuning runs in one process"):
        embedkit.tune(shop / "run.toml", shop / "space.toml", shop / "tuned", trials=1)
    assert not (shop / "tuned").exists()


def test_names_are_cut_to_what_tells_them_apart() -> None:
    assert short_names(["stages.0.optimizer.lr", "stages.0.table_optimizer.lr", "model.dim"]) == {
        "stages.0.optimizer.lr": "optimizer.lr",
        "stages.0.table_optimizer.lr": "table_optimizer.lr",
        "model.dim": "dim",
    }
    assert short_names(["dim", "model.dim"]) == {"dim": "dim", "model.dim": "model.dim"}


def test_the_command(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from embedkit.cli import main

    arguments = ["tune", str(shop / "run.toml"), "--space", str(shop / "space.toml"), "--trials", "2", "--out", str(shop / "tuned")]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert "ndcg@5" in out
    assert f"best run file: {shop / 'tuned' / 'best.toml'}" in out
    assert main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["trials"]) == 2
    assert found["best"] in found["trials"]
    assert main([*arguments, "--set", "model.dim=3"]) == 2
    assert "was begun with another run" in capsys.readouterr().err
