from __future__ import annotations

import platform

import psutil
import pytest
import torch

from embedkit.training.memory import give_back


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries give back by themselves, or cannot")
def test_what_was_freed_below_what_is_held_is_given_back():
    blocks = [torch.ones(25_000) for _ in range(1000)]  # 100 KB each: too small to be a mapping of their own
    held = blocks.pop()
    full = psutil.Process().memory_info().rss
    del blocks
    give_back()
    assert psutil.Process().memory_info().rss < full - 60e6
    assert held.sum() == 25_000
