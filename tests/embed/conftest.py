"""A shop's bundle, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from embedkit.bundle import Bundle
from embedkit.host import Host
from embedkit.registry import Registry
from embedkit.testing.shop import make_bundle, write_tables


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
