"""What several rooms' tests need: a shop's bundle, made once, and the prepared data sets."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from embedkit.bundle import Bundle
from embedkit.host import Host
from embedkit.registry import Registry
from embedkit.testing.shop import make_bundle, write_tables

os.environ["CUDA_VISIBLE_DEVICES"] = ""
"""Runs and commands that tests start are held to the last bit, which is promised on a CPU alone."""


@pytest.fixture(autouse=True)
def _own_torch_settings() -> Iterator[None]:
    """Runs set threads and deterministic algorithms for the process; other tests should not see that."""
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)


@pytest.fixture(scope="session")
def registry() -> Registry:
    return Host.load().registry


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    write_tables(folder)
    return folder


@pytest.fixture(scope="session")
def bundle(shop: Path, registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(shop, registry, tmp_path_factory.mktemp("bundle") / "bundle")


@pytest.fixture(scope="session")
def shared_datasets() -> Path:
    """The folder of prepared data sets, or a skip."""
    places = [Path(os.environ["EMBEDKIT_SHARED"])] if "EMBEDKIT_SHARED" in os.environ else []
    repository = Path(__file__).resolve().parents[1]
    places += [repository.parent / "shared", repository / "shared"]
    for place in places:
        if (place / "datasets").is_dir():
            return place / "datasets"
    pytest.skip("no prepared data sets here: set EMBEDKIT_SHARED to the folder that holds datasets/")


@pytest.fixture(scope="session")
def study_modules() -> Callable[..., AbstractContextManager[SimpleNamespace]]:
    """(folder in ``docs/studies``, names) → its scripts as modules. Their names are taken back: other studies have a run.py too."""

    @contextmanager
    def load(folder: str, *names: str) -> Iterator[SimpleNamespace]:
        before = {name: sys.modules.pop(name, None) for name in names}
        path = str(Path(__file__).parents[1] / "docs" / "studies" / folder)
        sys.path.insert(0, path)
        try:
            yield SimpleNamespace(**{name: __import__(name) for name in names})
        finally:
            sys.path.remove(path)
            for name, module in before.items():
                del sys.modules[name]
                if module is not None:
                    sys.modules[name] = module

    return load
