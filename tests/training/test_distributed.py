"""Two processes, started by torchrun over gloo: the weights of one process, one set of files, one sentence for an error."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tomli_w
import torch
from safetensors.torch import load_file

from embedkit.data.loader import make_loader
from embedkit.data.store import Store
from embedkit.errors import UsageError
from embedkit.launch import reopen
from embedkit.nn.gather import Shards, rank, shards, world
from embedkit.nn.model import Model
from embedkit.training.distributed import any_of, collect, from_first, mean
from embedkit.training.run import train_run
from embedkit.views import View

ACME = '''
"""A stage with files of its own, and a loss that fails on the second process."""
import os
from pathlib import Path
import torch
from embedkit import hookimpl
from embedkit.component import Config
from embedkit.errors import DataError
from embedkit.training.loss import Forward, Loss, LossResult, Needs, zero
from embedkit.training.stages import Stage, StageResult

class Noise(Stage):
    def run(self, context):
        path = context.folder.path / "once.txt"
        assert not path.exists(), "another process runs this stage too"
        path.write_text(os.environ.get("RANK", "0"))
        with torch.no_grad():
            for p in context.model.parameters():
                p.mul_(1.5 + int(os.environ.get("RANK", "0")))
        return StageResult({"scale": 1.5}, {"once": path}, 1)

class FailConfig(Config):
    bug: bool = False
    """Fail by a bug."""

class Fail(Loss):
    calls = 0

    @property
    def needs(self):
        return Needs((Forward("main", "user"),))

    def forward(self, step):
        self.calls += 1
        if self.calls == 3 and os.environ.get("RANK") == "1":
            raise ValueError("a bug") if self.config.bug else DataError("row 17 is wrong: mend it")
        return LossResult(zero(step.run("main", "user").embedding))

@hookimpl
def register_losses(register):
    register("fail", Fail, config=FailConfig, summary="Fail.")

@hookimpl
def register_stages(register):
    register("noise", Noise, config=Config, summary="Scale the weights.")
'''


def run_files(shop):
    """Name → contents of the run files that both sides train."""
    exact = {"optimizer": {"use": "sgd", "lr": 0.2, "momentum": 0.9}, "steps": 12, "log_every": 4}
    events = shop.run_file(**exact, average={"momentum": 0.5}, validate={"every": 6, "metric": "loss"})
    events["stages"][0]["streams"]["main"]["size"] = 63
    events["stages"][0]["views"][0]["value_dropout"] = 0.0
    events["evaluate"] = [{"use": "retrieval", "query": "user", "target": "item", "k": [10], "exclude_seen": False}]
    windows = shop.run_file(**exact, table_optimizer={"use": "rowwise_adagrad", "lr": 0.05}, forward_rows=5)
    windows["stages"][0]["streams"]["main"] |= {"rows": "windows", "size": 17}
    windows["stages"][0]["views"][0]["value_dropout"] = 0.0
    windows["stages"][0]["losses"][0] |= {"max_candidates": 40, "negatives": "ssl"}
    windows["model"]["trunks"]["user"] = {"use": "transformer", "layers": 1, "heads": 2, "causal": True, "dropout": 0.0}
    catalogue = copy.deepcopy(windows)
    catalogue["model"]["encoders"] = [{"use": "tower", "tower": "item", "fields": ["history"]}]
    catalogue["model"]["trunks"]["item"] = {"use": "mlp"}
    catalogue["stages"][0] |= {"optimizer": {"use": "sgd", "lr": 0.05}, "table_optimizer": {"use": "sgd", "lr": 0.05}}
    catalogue["stages"][0]["losses"][0] = {"use": "softmax", "query": "user", "target": "item", "temperature": 0.2}
    users = copy.deepcopy(catalogue)
    users["stages"][0]["streams"]["main"] |= {"rows": "users"}
    users["stages"][0]["views"].append(
        {"use": "value_dropout", "of": "main", "makes": ["part"], "fields": ["history"], "share": 0.999999}
    )  # as good as all: a draw would be each process's own
    users["stages"][0]["losses"][0] |= {"view": "part"}
    staged = shop.run_file(**exact)
    staged["stages"][0]["views"][0]["value_dropout"] = 0.0
    staged["stages"].insert(0, {"use": "noise"})
    dropout = shop.run_file(checkpoint_every=100)
    dropout["model"]["trunks"]["user"] = {"use": "transformer", "layers": 1, "heads": 2, "causal": True, "dropout": 0.3}
    wrong, bug = (shop.run_file(steps=6) for _ in range(2))
    wrong["stages"][0]["losses"].append({"use": "fail"})
    bug["stages"][0]["losses"].append({"use": "fail", "bug": True})
    return {
        "events": events,
        "windows": windows,
        "catalogue": catalogue,
        "users": users,
        "staged": staged,
        "dropout": dropout,
        "wrong": wrong,
        "bug": bug,
    }


@pytest.fixture(scope="module")
def two(tmp_path_factory, shop_in):
    """The folder of all runs, the shop they read, and how each run ended on each process."""
    folder = tmp_path_factory.mktemp("two")
    shop = shop_in(folder)
    (folder / "acme.py").write_text(ACME)
    for name, run in run_files(shop).items():
        (folder / f"{name}.toml").write_text(tomli_w.dumps(run))
    script = str(Path(__file__).with_name("ranks.py"))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", script, str(folder)]
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        command, env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    ends = [json.loads((folder / f"rank-{rank}.json").read_text()) for rank in range(2)]
    shop.host = shop.host_with(folder / "acme.py")
    return shop, ends


def bundle_of(folder):
    (run,) = folder.iterdir()
    return load_file(run / "bundle" / "model.safetensors")


@pytest.mark.parametrize("name", ["events", "windows", "catalogue", "users", "staged"])
def test_the_weights_are_those_of_one_process(two, name):
    shop, ends = two
    assert [end[name]["ended"] for end in ends] == ["finished", "finished"]
    result = shop.train(run_files(shop)[name])
    alone, together = load_file(result.bundle / "model.safetensors"), bundle_of(shop.folder / name)
    assert any((alone[key] - value).abs().max() > 0 for key, value in together.items()) or name != "events", "two processes did it"
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)


def test_figures_and_lines_are_those_of_one_process(two):
    shop, ends = two
    (folder,) = (shop.folder / "events").iterdir()
    together = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    result = shop.train(run_files(shop)["events"])
    alone = [json.loads(line) for line in result.folder.metrics.read_text().splitlines()]
    assert [(r["kind"], r["step"]) for r in together] == [(r["kind"], r["step"]) for r in alone]
    for ours, theirs in zip(together, alone, strict=True):
        if ours["kind"] == "train":
            assert ours["losses"] == pytest.approx(theirs["losses"], rel=1e-4)
        else:
            assert ours["value"] == pytest.approx(theirs["value"], rel=1e-4)
    assert (folder / "evaluation.json").is_file()
    assert json.loads((folder / "status.json").read_text())["state"] == "finished"
    assert ends[0]["events"]["lines"] > 3
    assert ends[1]["events"]["lines"] == 0, "one process speaks"


def test_a_stage_with_a_loop_of_its_own_runs_once(two):
    shop, _ = two
    (folder,) = (shop.folder / "staged").iterdir()
    assert (folder / "once.txt").read_text() == "0"


def test_a_stop_and_a_resume_give_the_weights_of_an_uninterrupted_run(two):
    shop, ends = two
    assert [end["stopped"]["ended"] for end in ends] == ["KeyboardInterrupt", "SystemExit 130"], "one was asked, both stop"
    assert [end["resumed"]["ended"] for end in ends] == ["finished", "finished"]
    assert ends[0]["resumed"]["continued"]
    whole, resumed = bundle_of(shop.folder / "whole"), bundle_of(shop.folder / "stopped")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_one_process_goes_on_where_two_stopped_and_warns(two):
    shop, _ = two
    (path,) = (shop.folder / "left").iterdir()
    lines = []
    result = train_run(*reopen(path, shop.host), shop.host, resume=True, log=lines.append)
    assert any("warning" in line and "processes was 2, is 1" in line for line in lines)
    assert result.folder.state == "finished"


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [
        ("wrong", "SystemExit 2", "DataError: row 17 is wrong: mend it"),
        ("bug", "SystemExit 1", "ValueError: a bug"),
    ],
)
def test_an_error_of_one_process_ends_both_and_is_told_once(two, name, first, second):
    shop, ends = two
    assert [end[name]["ended"] for end in ends] == [first, second]
    left = list((shop.folder / name).iterdir()) if (shop.folder / name).exists() else []
    if name == "wrong":
        assert left == [], "as with one process, a run that could not start leaves no folder"
    else:
        status = json.loads((left[0] / "status.json").read_text())
        assert status["state"] == "failed"
        assert "a bug" in status["error"]


def test_an_error_of_all_processes_is_told_once(two):
    _, ends = two
    assert sorted(end["absent"]["ended"].partition(":")[0] for end in ends) == ["SystemExit 2", "UsageError"]


def test_a_batch_smaller_than_the_processes_is_refused(shop):
    plan, _ = shop.launch(shop.run_file())
    store = Store.open(plan)
    store.fit()
    stream = plan.stages[0].config.streams["main"].model_copy(update={"size": 2})
    with pytest.raises(UsageError, match=r"streams\.main\.size: a batch of 2 cannot be dealt to 3 processes"):
        make_loader(store, "main", stream, shop.host.registry, 0, ("history",), world=3)


@pytest.mark.parametrize("rows", ["events", "windows"])
def test_a_process_whose_shard_of_a_last_batch_is_empty_goes_on(shop, rows):
    plan, _ = shop.launch(shop.run_file())
    store = Store.open(plan)
    store.fit()
    stream = plan.stages[0].config.streams["main"].model_copy(update={"rows": rows})
    loader = make_loader(store, "main", stream, shop.host.registry, 0, ("history", "item_id", "kind", "maker", "tags", "price"))
    empty = loader._batch(np.zeros(0, dtype=np.int64))
    model = Model(plan.model, store.codecs.stats)
    assert [model(View(empty), tower).embedding.shape for tower in ("user", "item")] == [(0, 16)] * 2


def test_one_process_alone_needs_none_of_it():
    x = torch.randn(3, 2, requires_grad=True)
    batch = shards(3, x.device)
    assert batch == Shards((3,), 0)
    assert (batch.total, batch.offset, batch.own(x.device).tolist()) == (3, 0, [0, 1, 2])
    assert batch.gather(x) is x
    assert float(batch.mean(torch.tensor(6.0), torch.tensor(3))) == 2.0
    assert float(batch.mean(torch.tensor(0.0), torch.tensor(0))) == 0.0
    assert (world(), rank()) == (1, 0)
    assert from_first(lambda: {"a": 1}) == {"a": 1}
    assert any_of(True)
    assert not any_of(False)
    assert mean({"a": 2.0}) == {"a": 2.0}
    assert collect(b"x") == [b"x"]


def test_where_the_shards_of_unequal_processes_lie():
    layout = Shards((3, 2, 2), 1)
    assert (layout.total, layout.offset, layout.own(torch.device("cpu")).tolist()) == (7, 3, [3, 4])
