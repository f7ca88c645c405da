"""Saving, loading and identifying bundles."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from embedkit.bundle import (
    Bundle,
    find_bundle,
    load_bundle,
    read_meta,
    save_bundle,
    spaces_of,
)
from embedkit.config.plan import Plan
from embedkit.errors import BundleError, DataError, PluginError, SpaceMismatch, UsageError
from embedkit.host import Host
from embedkit.registry import Registry
from embedkit.serve.encode import Embedder
from embedkit.testing.disk import tiny_disk
from embedkit.testing.shop import make_bundle, make_plan


@pytest.fixture
def plan(shop: Path, registry: Registry) -> Plan:
    return make_plan(shop, registry)


@pytest.fixture
def copy(bundle: Bundle, plan: Plan, tmp_path: Path) -> Path:
    """The bundle, saved once more, to be damaged."""
    save_bundle(tmp_path / "copy", model=bundle.model, codecs=bundle.codecs, plan=plan, metrics={"recall@10": 0.25})
    return tmp_path / "copy"


def test_a_loaded_bundle_gives_the_same_vectors(bundle: Bundle, copy: Path, shop: Path, registry: Registry) -> None:
    rows = pq.read_table(shop / "items-0.parquet")
    again = load_bundle(copy, registry)
    np.testing.assert_array_equal(Embedder(again).encode(rows), Embedder(bundle).encode(rows))
    assert again.spaces == bundle.spaces
    assert again.meta.files == bundle.meta.files


def test_loading_leaves_the_random_numbers_alone(copy: Path, registry: Registry) -> None:
    torch.manual_seed(5)
    before = torch.rand(1)
    torch.manual_seed(5)
    load_bundle(copy, registry)
    assert torch.rand(1) == before


def test_files_hold_no_pickle_and_no_import_path(copy: Path) -> None:
    names = sorted(p.relative_to(copy).as_posix() for p in copy.rglob("*") if p.is_file())
    assert {"README.md", "bundle.json", "metrics.json", "model.safetensors", "run.toml", "codecs/codecs.json"} <= set(names)
    assert {Path(n).suffix for n in names} == {".md", ".json", ".safetensors", ".toml", ".parquet"}
    text = (copy / "bundle.json").read_text()
    assert "embedkit_" not in text
    assert "unified:embedding" in text


def test_every_flipped_byte_is_noticed_and_its_file_named(copy: Path, registry: Registry) -> None:
    for name in read_meta(copy).files:
        path = copy / name
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(BundleError, match=name):
            load_bundle(copy, registry)
        path.write_bytes(content)
    load_bundle(copy, registry)


def test_a_missing_file_and_damaged_meta(copy: Path, registry: Registry) -> None:
    meta = (copy / "bundle.json").read_text()
    (copy / "bundle.json").write_text(meta[:-30])
    with pytest.raises(BundleError, match="bundle.json: is damaged"):
        load_bundle(copy, registry)
    (copy / "bundle.json").write_text(meta.replace('"format": 1', '"format": 99'))
    with pytest.raises(BundleError, match="format 99"):
        load_bundle(copy, registry)
    (copy / "bundle.json").write_text(meta)
    (copy / "model.safetensors").unlink()
    with pytest.raises(BundleError, match=r"model.safetensors: is missing"):
        load_bundle(copy, registry)
    with pytest.raises(BundleError, match="holds no bundle"):
        load_bundle(copy / "codecs", registry)


def test_a_run_folder_stands_for_its_bundle(copy: Path, tmp_path: Path) -> None:
    copy.rename(tmp_path / "bundle")
    assert find_bundle(tmp_path) == tmp_path / "bundle"


def test_a_missing_plugin_is_named_with_its_distribution(copy: Path) -> None:
    with pytest.raises(PluginError, match=r"needs encoder text:hashed_text from embedkit \d"):
        load_bundle(copy, Host.load(plugins=["no:text"]).registry)


def test_what_only_training_needs_is_not_asked_for(copy: Path, bundle: Bundle) -> None:
    loaded = load_bundle(copy, Host.load(plugins=["no:training", "no:itemrec", "no:contrastive"]).registry)
    assert loaded.spaces == bundle.spaces


def test_weights_of_another_shape_are_refused(bundle: Bundle, plan: Plan, tmp_path: Path, registry: Registry) -> None:
    model = bundle.model
    broken = make_plan(plan.base, registry, model={"dim": 8})
    wrong = replace(plan, model=broken.model)
    wrong_model = type("Lying", (), {})()
    wrong_model.__dict__.update(spec=broken.model, encoders=model.encoders, trunks=model.trunks, heads=model.heads)
    wrong_model.__dict__.update(dims=model.dims, prefixes=model.prefixes, state_dict=model.state_dict)
    save_bundle(tmp_path / "b", model=wrong_model, codecs=bundle.codecs, plan=wrong, metrics={})
    with pytest.raises(BundleError, match=r"model.safetensors: tensor '.*' has shape"):
        load_bundle(tmp_path / "b", registry)


def test_a_space_changes_with_what_makes_its_vectors(bundle: Bundle) -> None:
    before = spaces_of(bundle.model, bundle.codecs)
    head = next(bundle.model.heads["user"].parameters())
    kept = head.detach().clone()
    with torch.no_grad():
        head[0, 0] += 1
        after = spaces_of(bundle.model, bundle.codecs)
        head.copy_(kept)
    assert before["item"].id == after["item"].id
    assert before["user"].id != after["user"].id
    assert before["item"].family != after["item"].family
    assert spaces_of(bundle.model, bundle.codecs)["user"].id == before["user"].id
    assert (before["item"].dim, before["item"].prefixes, before["item"].metric) == (16, (4, 8, 16), "cosine")


def test_other_weights_are_another_space(bundle: Bundle, shop: Path, registry: Registry, tmp_path: Path) -> None:
    other = make_bundle(shop, registry, tmp_path / "b", seed=1)
    with pytest.raises(SpaceMismatch, match="embed and index again"):
        other.spaces["item"].require_same(bundle.spaces["item"], here="a", there="b")


def test_towers_are_chosen(bundle: Bundle) -> None:
    assert bundle.tower() == "item"
    with pytest.raises(UsageError, match="no tower 'users'; it has item, user"):
        bundle.tower("users")


def test_a_bundle_is_replaced_whole(bundle: Bundle, plan: Plan, copy: Path) -> None:
    save_bundle(copy, model=bundle.model, codecs=bundle.codecs, plan=plan, metrics={"x": 1.0})
    assert json.loads((copy / "metrics.json").read_text()) == {"x": 1.0}
    assert os.listdir(copy.parent) == ["copy"]


def test_the_card_says_what_it_is(copy: Path) -> None:
    text = (copy / "README.md").read_text()
    for part in ("# shop", "**item** over table `items`: 16 dimensions (prefixes 4, 8, 16), cosine", "`brand`", "| recall@10 | 0.2500 |"):
        assert part in text


def test_a_full_disk(bundle: Bundle, plan: Plan, tmp_path: Path) -> None:
    with tiny_disk(tmp_path / "disk", "64k") as disk:
        with pytest.raises(DataError, match="no space left"):
            save_bundle(disk / "b", model=bundle.model, codecs=bundle.codecs, plan=plan, metrics={})
        assert os.listdir(disk) == []
