"""A build that is killed leaves a whole generation; readers never see half of one."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from embedkit.config.plan import Part
from embedkit.errors import BundleError, DataError, UsageError
from embedkit.files import locked
from embedkit.index.build import build_index
from embedkit.index.bundle import IndexBundle
from embedkit.registry import Registry
from embedkit.testing import kills
from embedkit.testing.conformance.index import unit_vectors
from embedkit.testing.disk import tiny_disk

BUILD = """
from embedkit.config.plan import Part
from embedkit.host import Host
from embedkit.index.build import build_index
entry = Host.load().registry.entry("index", "hnsw")
part = Part(entry, entry.parse({"m": 8}, where="test"))
while True:
    build_index(embeddings, out, part, keep=[], threads=1)
"""


@pytest.mark.parametrize("delay", [0.02, 0.25, 0.6])
def test_kill_leaves_a_whole_generation(
    embeddings: Callable[..., Path], tmp_path: Path, backend: Callable[..., Part], registry: Registry, delay: float
) -> None:
    folder, out = embeddings(tmp_path / "e", unit_vectors(2_500, 16, 0)), tmp_path / "i"
    build_index(folder, out, backend(m=8), keep=[])
    assert kills.kill(kills.start(BUILD, embeddings=str(folder), out=str(out)), after=delay)
    index = IndexBundle.open(out, registry)
    assert index.search(unit_vectors(3, 16, 1), 5)[0].shape == (3, 5)
    after = build_index(folder, out, backend(m=8), keep=[])
    assert int(after.generation) > int(index.generation)
    assert not [name for name in os.listdir(out) if ".tmp-" in name]


def test_readers_during_publishing(
    embeddings: Callable[..., Path], tmp_path: Path, backend: Callable[..., Part], registry: Registry
) -> None:
    folder = embeddings(tmp_path / "e", unit_vectors(1_100, 16, 0))
    out = tmp_path / "i"
    build_index(folder, out, backend("exact"), keep=[])
    stop, seen, failures = threading.Event(), set(), []

    def read() -> None:
        while not stop.is_set():
            try:
                seen.add(IndexBundle.open(out, registry).generation)
            except Exception as error:
                failures.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(8):
        build_index(folder, out, backend("exact"), keep=[])
    stop.set()
    reader.join()
    assert not failures
    assert len(seen) > 1


def test_two_builders_do_not_meet(embeddings: Callable[..., Path], tmp_path: Path, backend: Callable[..., Part]) -> None:
    folder = embeddings(tmp_path / "e", unit_vectors(100, 16, 0))
    with locked(tmp_path / "i" / ".lock", "x"), pytest.raises(UsageError, match="written by another process"):
        build_index(folder, tmp_path / "i", backend())


def test_no_index(tmp_path: Path, registry: Registry) -> None:
    with pytest.raises(BundleError, match="holds no index"):
        IndexBundle.open(tmp_path, registry)
    (tmp_path / "CURRENT").write_text("000007\n")
    with pytest.raises(BundleError, match="generation '000007', which is not there"):
        IndexBundle.open(tmp_path, registry)


def test_a_full_disk(embeddings: Callable[..., Path], tmp_path: Path, backend: Callable[..., Part], registry: Registry) -> None:
    folder = embeddings(tmp_path / "e", unit_vectors(2_000, 16, 0))
    with tiny_disk(tmp_path / "disk", "600k") as disk:
        few = embeddings(tmp_path / "small", unit_vectors(500, 16, 0))
        small = build_index(few, disk / "i", backend("hnsw", m=4), keep=[])
        with pytest.raises(DataError, match="no space left"):
            build_index(folder, disk / "i", backend("hnsw"), keep=[])
        assert sorted(os.listdir(disk / "i")) == [".lock", "000001", "CURRENT"]
        assert IndexBundle.open(disk / "i", registry).generation == small.generation
