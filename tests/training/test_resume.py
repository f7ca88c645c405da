"""kill -9 at random moments, then resume: the weights equal those of an uninterrupted run, bit for bit (decision 18)."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from embedkit.runs import RunFolder
from embedkit.testing import kills

CHILD = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from conftest import first_party
from embedkit.launch import reopen
from embedkit.training.run import train_run
host = first_party()
train_run(*reopen(folder, host), host, resume=True)
"""
STAGE = {"steps": 60, "checkpoint_every": 3, "log_every": 5, "validate": {"every": 10, "metric": "loss"}}


def newest_step(folder: RunFolder) -> int:
    return max((int(path.name[5:]) for path in (folder.checkpoints / "stage-0").glob("step-*")), default=0)


@pytest.mark.slow
def test_three_kills(shop):
    whole = load_file(shop.train(**STAGE).bundle / "model.safetensors")
    _, folder = shop.launch(shop.run_file(**STAGE))
    folder.set_status("interrupted")
    draw = random.Random(0)
    for least in (3, 21, 42):
        process = kills.start(CHILD, folder=str(folder.path))
        assert kills.kill(process, after=draw.random() * 0.05, ready=lambda least=least: newest_step(folder) >= least)
    assert folder.state == "interrupted"
    process = kills.start(CHILD, folder=str(folder.path))
    process.join()
    assert process.exitcode == 0
    resumed = load_file(folder.bundle / "model.safetensors")
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
