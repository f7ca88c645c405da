"""kill -9 at random moments, then resume: the weights equal those of an uninterrupted run, bit for bit (decision 18)."""

from __future__ import annotations

import multiprocessing
import random
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
train_run(*reopen(folder, host), host, resume=True)
"""
STAGE = {"steps": 60, "checkpoint_every": 3, "log_every": 5, "validate": {"every": 10, "metric": "loss"}}
HEAVY = [
    "embedkit.train.run",
    "embedkit.train.loop",
    "embedkit.data.loader",
    "embedkit.data.codecs",
    "embedkit.bundle",
    "embedkit_training.stage",
]


@pytest.fixture
def start():
    """Start a process that resumes a run; processes are forked from one that has imported everything already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(HEAVY)

    def start(folder: RunFolder):
        process = context.Process(target=exec, args=(CHILD, {"folder": str(folder.path)}))
        process.start()
        return process

    return start


def kill_after(process, folder: RunFolder, step: int, wait: float) -> None:
    """Wait for a checkpoint of at least this step and a moment more, then kill -9."""
    while process.is_alive():
        steps = [int(path.name[5:]) for path in (folder.checkpoints / "stage-0").glob("step-*")]
        if max(steps, default=0) >= step:
            time.sleep(wait)
            process.kill()
            process.join()
            return
        time.sleep(0.005)
    raise AssertionError(f"the run ended before step {step}")


@pytest.mark.slow
def test_three_kills(shop, start):
    whole = load_file(shop.train(**STAGE).bundle / "model.safetensors")
    _, folder = shop.launch(shop.run_file(**STAGE))
    folder.set_status("interrupted")
    draw = random.Random(0)
    for least in (3, 21, 42):
        kill_after(start(folder), folder, least, draw.random() * 0.05)
    assert folder.state == "interrupted"
    process = start(folder)
    process.join()
    assert process.exitcode == 0
    resumed = load_file(folder.bundle / "model.safetensors")
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
