"""Embedding a catalogue: what is written, what is refused, and what an interrupted run leaves."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from embedkit.bundle import Bundle
from embedkit.embed.manifest import open_embeddings, read_manifest
from embedkit.embed.stream import embed
from embedkit.errors import BundleError, DataError, SpaceMismatch, UsageError
from embedkit.registry import Registry
from embedkit.serve.encode import Embedder
from embedkit.testing import kills
from embedkit.testing.disk import tiny_disk
from embedkit.testing.shop import make_bundle


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir()) if not p.name.startswith(".")}


@pytest.fixture(scope="module")
def catalogue(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shop's items in eight files, so that there are eight units."""
    folder = tmp_path_factory.mktemp("catalogue")
    rows = pa.concat_tables([pq.read_table(shop / f"items-{i}.parquet") for i in range(2)])
    for number in range(8):
        pq.write_table(rows.slice(number * 38, 38), folder / f"c-{number}.parquet")
    return folder


def test_vectors_are_those_of_the_model(bundle: Bundle, shop: Path, tmp_path: Path) -> None:
    manifest = embed(bundle, tmp_path / "e", batch_size=64)
    assert manifest.complete
    assert (manifest.rows, len(manifest.units)) == (300, 2)
    opened = open_embeddings(tmp_path / "e")
    assert opened.space == bundle.spaces["item"]
    rows = pa.concat_tables([pq.read_table(shop / f"items-{i}.parquet") for i in range(2)])
    ids, vectors = zip(*opened.blocks(), strict=True)
    assert pa.concat_arrays(ids).to_pylist() == rows["item_id"].to_pylist()
    np.testing.assert_allclose(np.concatenate(vectors), Embedder(bundle).encode(rows), atol=1e-6)
    part = pq.read_table(tmp_path / "e" / "part-00000.parquet")
    assert part.schema.field("vector").type == pa.list_(pa.float32(), 16)
    assert part.schema.field("hash").type == pa.binary(16)


def test_workers_share_the_units(bundle: Bundle, catalogue: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    embed(bundle, one, table="*.parquet", base=catalogue)
    first = embed(bundle, two, table="*.parquet", base=catalogue, workers=3, worker=1)
    assert not first.complete
    with pytest.raises(BundleError, match="5 of 8 parts are missing"):
        open_embeddings(two)
    embed(bundle, two, table="*.parquet", base=catalogue, workers=3, worker=0)
    assert embed(bundle, two, table="*.parquet", base=catalogue, workers=3, worker=2).complete
    for name, content in contents(one).items():
        if not name.startswith("units-"):
            assert (two / name).read_bytes() == content
    with pytest.raises(UsageError, match="worker 3 of 3"):
        embed(bundle, two, workers=3, worker=3)


EMBED = """
import time
import torch
from embedkit.bundle import load_bundle
from embedkit.embed.stream import embed
from embedkit.embed.writer import PartWriter
from embedkit.host import Host

plain = PartWriter._write
def slowly(self, *arguments):
    time.sleep(0.1)
    plain(self, *arguments)
PartWriter._write = slowly
torch.set_num_threads(1)
embed(load_bundle(bundle, Host.load().registry), out, table="*.parquet", base=base)
"""


@pytest.mark.parametrize("delay", [0.0, 0.18, 0.33])
def test_kill_and_resume_give_equal_files(bundle: Bundle, catalogue: Path, tmp_path: Path, delay: float) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    embed(bundle, whole, table="*.parquet", base=catalogue)
    process = kills.start(EMBED, bundle=str(bundle.path), base=str(catalogue), out=str(killed))
    assert kills.kill(process, after=delay, ready=(killed / "manifest.json").exists)
    assert not read_manifest(killed).complete
    assert len(list(killed.glob("part-*"))) < 8
    assert embed(bundle, killed, table="*.parquet", base=catalogue).complete
    assert contents(killed) == contents(whole)
    assert not [name for name in os.listdir(killed) if ".tmp-" in name]


def test_a_finished_run_is_not_done_again(bundle: Bundle, tmp_path: Path) -> None:
    embed(bundle, tmp_path / "e")
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "e").glob("part-*")}
    lines: list[str] = []
    embed(bundle, tmp_path / "e", log=lines.append)
    assert {p.name: p.stat().st_mtime_ns for p in (tmp_path / "e").glob("part-*")} == before
    assert "2 done, 0 to do" in lines[0]


def test_a_lost_part_is_made_again(bundle: Bundle, tmp_path: Path) -> None:
    embed(bundle, tmp_path / "e")
    part = tmp_path / "e" / "part-00001.parquet"
    content = part.read_bytes()
    part.unlink()
    embed(bundle, tmp_path / "e")
    assert part.read_bytes() == content


def test_another_plan_is_refused_unless_forced(bundle: Bundle, shop: Path, registry: Registry, catalogue: Path, tmp_path: Path) -> None:
    out = tmp_path / "e"
    embed(bundle, out, batch_size=64)
    with pytest.raises(UsageError, match="begun with batch_size 64, now it is 32"):
        embed(bundle, out, batch_size=32)
    with pytest.raises(UsageError, match="another state of table 'items'"):
        embed(bundle, out, table="c-0.parquet", base=catalogue, batch_size=64)
    other = make_bundle(shop, registry, tmp_path / "other", seed=1)
    with pytest.raises(SpaceMismatch, match="holds vectors of space"):
        embed(other, out, batch_size=64)
    embed(other, out, batch_size=32, force=True)
    assert open_embeddings(out).space == other.spaces["item"]


def test_a_changed_catalogue_is_refused(bundle: Bundle, catalogue: Path, tmp_path: Path) -> None:
    path = tmp_path / "c.parquet"
    pq.write_table(pq.read_table(catalogue / "c-0.parquet"), path)
    embed(bundle, tmp_path / "e", table="c.parquet", base=tmp_path)
    pq.write_table(pq.read_table(catalogue / "c-1.parquet"), path)
    with pytest.raises(UsageError, match=r"c\.parquet changed"):
        embed(bundle, tmp_path / "e", table="c.parquet", base=tmp_path)


def _rows(catalogue: Path) -> pa.Table:
    return pq.read_table(catalogue / "c-0.parquet")


BAD = {
    "duplicate key": (lambda t: pa.concat_tables([t, t.slice(3, 1)]), "twice"),
    "null key": (lambda t: t.set_column(0, "item_id", pc.if_else(pc.equal(t["item_id"], "item-3"), None, t["item_id"])), "no value"),
    "missing column": (lambda t: t.drop_columns(["brand"]), "no column 'brand'"),
    "text that is not text": (lambda t: t.set_column(1, "title", pa.array(range(38))), "wanted text"),
    "infinity": (lambda t: t.set_column(3, "price", pa.array([1.0] * 37 + [float("inf")])), "holds inf"),
    "no rows": (lambda t: t.slice(0, 0), "no rows"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_catalogues_are_one_sentence(bundle: Bundle, catalogue: Path, tmp_path: Path, name: str) -> None:
    change, message = BAD[name]
    pq.write_table(change(_rows(catalogue)), tmp_path / "bad.parquet")
    with pytest.raises(DataError, match=message) as error:
        embed(bundle, tmp_path / "e", table="bad.parquet", base=tmp_path)
    assert "bad.parquet" in str(error.value)
    if (tmp_path / "e").exists():
        assert not read_manifest(tmp_path / "e").complete
        assert not list((tmp_path / "e").glob("part-*"))


def test_a_bad_value_leaves_the_parts_before_it(bundle: Bundle, catalogue: Path, tmp_path: Path) -> None:
    for number in range(2):
        pq.write_table(pq.read_table(catalogue / f"c-{number}.parquet"), tmp_path / f"d-{number}.parquet")
    bad = pq.read_table(catalogue / "c-2.parquet")
    pq.write_table(bad.set_column(3, "price", pa.array([float("inf")] * 38)), tmp_path / "d-2.parquet")
    with pytest.raises(DataError, match="inf"):
        embed(bundle, tmp_path / "e", table="d-*.parquet", base=tmp_path)
    assert sorted(p.name for p in (tmp_path / "e").glob("part-*")) == ["part-00000.parquet", "part-00001.parquet"]
    assert json.loads((tmp_path / "e" / "manifest.json").read_text())["complete"] is False


def test_places_that_cannot_be_used(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("mine")
    with pytest.raises(UsageError, match="is not empty and holds no embeddings"):
        embed(bundle, tmp_path / "full")
    with pytest.raises(UsageError, match="is a file"):
        embed(bundle, tmp_path / "full" / "letter.txt")
    with pytest.raises(UsageError, match=r"tower 'user' reads field 'history'"):
        embed(bundle, tmp_path / "e", tower="user")


def test_a_full_disk(bundle: Bundle, catalogue: Path, tmp_path: Path) -> None:
    with tiny_disk(tmp_path / "disk", "48k") as disk:
        with pytest.raises(DataError, match="no space left"):
            embed(bundle, disk / "e", table="*.parquet", base=catalogue)
        assert not read_manifest(disk / "e").complete
        assert not [name for name in os.listdir(disk / "e") if ".tmp-" in name]
        for path in (disk / "e").glob("part-*"):
            pq.read_table(path)


def test_a_damaged_part_is_noticed(bundle: Bundle, tmp_path: Path) -> None:
    embed(bundle, tmp_path / "e")
    path = tmp_path / "e" / "part-00000.parquet"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(BundleError, match="damaged"):
        list(open_embeddings(tmp_path / "e").blocks())
    (tmp_path / "e" / "manifest.json").write_text("{}")
    with pytest.raises(BundleError, match=r"manifest\.json: is damaged"):
        open_embeddings(tmp_path / "e")
