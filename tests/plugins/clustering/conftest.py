from __future__ import annotations

import pytest
import torch


@pytest.fixture(autouse=True)
def _own_torch_settings():
    """Runs set threads and deterministic algorithms for the process; other tests should not see that."""
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)
