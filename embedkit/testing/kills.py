"""Kill -9 at any moment of training, embedding or indexing: processes forked from one that has imported everything already."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from typing import Any

_PRELOAD = [
    "embedkit.bundle",
    "embedkit.data.codecs",
    "embedkit.data.loader",
    "embedkit.embed.stream",
    "embedkit.index.build",
    "embedkit.training.loop",
    "embedkit.training.run",
    "embedkit_hnsw.hnsw",
    "embedkit_training.stage",
]


def start(source: str, **names: Any) -> BaseProcess:
    """Run Python source in a new process, with ``names`` (strings, numbers) defined in it.

    The process is forked from a server that imports torch and embedkit once, so a start takes milliseconds.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOAD)
    process = context.Process(target=exec, args=(source, names))
    process.start()
    return process


def kill(process: BaseProcess, *, after: float = 0.0, ready: Callable[[], bool] | None = None) -> bool:
    """Kill -9 once ``ready`` is true, and ``after`` seconds more. Says whether the process was still at work.

    Raises:
        RuntimeError: it ended with an error of its own, which stands on standard error.
    """
    while ready is not None and process.is_alive() and not ready():
        time.sleep(0.002)
    process.join(after)
    process.kill()
    process.join()
    if process.exitcode not in (0, -9):
        raise RuntimeError(f"the work failed with exit status {process.exitcode}")
    return process.exitcode != 0
