from __future__ import annotations

import io
import math
from datetime import datetime, timedelta

import pytest
import torch

from embedkit.config.model import ValidateConfig
from embedkit.training.curve import draw_curve
from embedkit.training.meter import Meter
from embedkit.training.report import MetricsFile, RunLog, make_progress, summary
from embedkit.training.validate import Stopper


def test_meter_takes_means_and_continues_from_its_state():
    meter = Meter()
    meter.add({"loss": torch.tensor(1.0), "part": torch.tensor(4.0)}, 10)
    fresh = Meter()
    fresh.load_state_dict(meter.state_dict(), torch.device("cpu"))
    fresh.add({"loss": torch.tensor(3.0), "part": torch.tensor(0.0)}, 10)
    losses, speed = fresh.take()
    assert losses == {"loss": 2.0, "part": 2.0}
    assert speed > 0
    assert fresh.take()[0] == {}


def test_metrics_are_cut_back_to_a_checkpoint(tmp_path):
    file = MetricsFile(tmp_path / "metrics.jsonl")
    file.append({"step": 1})
    size = file.size
    file.append({"step": 2})
    with file.path.open("a") as torn:
        torn.write('{"step": 3')
    assert [r["step"] for r in file.records()] == [1, 2]
    file.cut(size)
    file.append({"step": 2, "again": True})
    assert [(r["step"], r.get("again")) for r in file.records()] == [(1, None), (2, True)]
    times = [datetime.fromisoformat(r["time"]) for r in file.records()]
    assert times == sorted(times)
    assert times[0].utcoffset() == timedelta(0)


def test_a_stage_that_starts_anew_drops_its_lines(tmp_path):
    file = MetricsFile(tmp_path / "metrics.jsonl")
    file.cut_stage("two")
    for stage in ("one", "one", "two", "two"):
        file.append({"stage": stage})
    with file.path.open("a") as torn:
        torn.write('{"stage": "tw')
    file.cut_stage("two")
    assert [r["stage"] for r in file.records()] == ["one", "one"]
    assert file.path.read_text().endswith("}\n")


def test_a_log_keeps_what_it_says_and_what_a_bar_shows(tmp_path, monkeypatch):
    said = []
    log = RunLog(tmp_path / "log.txt", said.append)
    log("table 'items': 60 rows")
    monkeypatch.setattr("sys.stderr", Terminal())
    monkeypatch.delenv("TERM", raising=False)
    bar = make_progress(log, log.keep, "train", 10, 0)
    bar.update(5, "loss 0.5")
    bar.line("a warning")
    bar.close()
    RunLog(tmp_path / "log.txt", said.append)("resumed")
    assert said == ["table 'items': 60 rows", "a warning", "resumed"]
    assert (tmp_path / "log.txt").read_text() == "table 'items': 60 rows\ntrain step 5/10  loss 0.5\na warning\nresumed\n"


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_stopper_knows_which_way_is_better():
    best = Stopper(ValidateConfig(metric="ndcg@10", patience=2))
    assert [best.see(value, step) for step, value in enumerate((0.1, 0.3, 0.2, math.nan))] == [True, True, False, False]
    assert (best.best, best.best_step, best.stopped) == (0.3, 1, True)
    loss = Stopper(ValidateConfig(metric="loss"))
    assert [loss.see(value, step) for step, value in enumerate((3.0, 2.0, 2.0))] == [True, True, False]
    assert not loss.stopped
    fresh = Stopper(ValidateConfig(metric="ndcg@10", patience=2))
    fresh.load_state_dict(best.state_dict())
    assert fresh.stopped


def test_texts():
    assert summary({"loss": 1.5, "nce": 1.5}, 1234.0) == "loss 1.5000  1,234 rows/s"
    assert summary({"loss": 3.0, "a": 1.0, "b": 2.0, "b/part": 9.0}, 10.0) == "loss 3.0000  a 1.0000  b 2.0000  10 rows/s"


@pytest.mark.parametrize("valid", [True, False])
def test_the_curve_is_a_picture(tmp_path, valid):
    records = [{"kind": "train", "stage": "one", "step": s, "losses": {"loss": 5.0 / s, "nce": 5.0 / s}} for s in (1, 2, 3)]
    records += [{"kind": "train", "stage": "two", "step": s, "losses": {"loss": 1.0, "a": 0.5, "b": 0.5}} for s in (1, 2)]
    if valid:
        records.append({"kind": "valid", "stage": "two", "step": 2, "metric": "ndcg@10", "value": 0.5})
    draw_curve(records, tmp_path / "curve.png", title="shop")
    assert (tmp_path / "curve.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    draw_curve([], tmp_path / "none.png", title="shop")
    assert not (tmp_path / "none.png").exists()
