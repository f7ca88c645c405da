"""Embeddings folders made by hand, and backends."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from embedkit.config.plan import Part
from embedkit.host import Host
from embedkit.registry import Registry
from embedkit.testing.embeddings import write_embeddings


@pytest.fixture(scope="session")
def registry() -> Registry:
    return Host.load().registry


@pytest.fixture(scope="session")
def backend(registry: Registry) -> Callable[..., Part]:
    def make(name: str = "hnsw", **options: Any) -> Part:
        entry = registry.entry("index", name)
        return Part(entry, entry.parse(options, where="test"))

    return make


@pytest.fixture(scope="session")
def embeddings() -> Callable[..., Path]:
    return partial(write_embeddings, prefixes=(4, 8))
