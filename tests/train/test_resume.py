"""kill -9 at random moments, then resume: the weights equal those of an uninterrupted run, bit for bit (decision 18)."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from embedkit.runs import RunFolder

CHILD = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from conftest import first_party
from embedkit.launch import reopen
from embedkit.train.run import train_run
host = first_party()
plan, folder = reopen(sys.argv[1], host)
train_run(plan, folder, host, resume=True)
"""
STAGE = {"steps": 60, "checkpoint_every": 3, "log_every": 5, "validate": {"every": 10, "metric": "loss"}}


def start(folder: RunFolder) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", CHILD, str(folder.path)], stderr=subprocess.PIPE, text=True)


def kill_after(folder: RunFolder, step: int, wait: float) -> None:
    """Start, wait for a checkpoint of at least this step and a moment more, then kill -9."""
    process = start(folder)
    while process.poll() is None:
        steps = [int(path.name[5:]) for path in (folder.checkpoints / "stage-0").glob("step-*")]
        if max(steps, default=0) >= step:
            time.sleep(wait)
            process.send_signal(signal.SIGKILL)
            process.communicate()
            return
        time.sleep(0.005)
    raise AssertionError(f"the run ended before step {step}: {process.communicate()[1]}")


@pytest.mark.slow
def test_three_kills(shop):
    whole = load_file(shop.train(**STAGE).bundle / "model.safetensors")
    _, folder = shop.launch(shop.run_file(**STAGE))
    folder.set_status("interrupted")
    draw = random.Random(0)
    for least in (3, 21, 42):
        kill_after(folder, least, draw.random() * 0.05)
    assert folder.state == "interrupted"
    process = start(folder)
    assert process.wait() == 0, process.communicate()[1]
    resumed = load_file(folder.bundle / "model.safetensors")
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
