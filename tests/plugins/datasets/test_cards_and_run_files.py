from __future__ import annotations

import importlib.resources
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import embedkit_datasets
from embedkit.config.model import RunConfig, TrainConfig
from embedkit.data.dataset import Dataset
from embedkit_datasets.adult import Adult
from embedkit_datasets.california_housing import CaliforniaHousing
from embedkit_datasets.configs import NoOptions
from embedkit_datasets.criteo_sample import CriteoSample
from embedkit_datasets.files import write_run_file
from embedkit_datasets.frappe import Frappe
from embedkit_datasets.higgs_sample import HiggsSample
from embedkit_datasets.mnist import Mnist
from embedkit_datasets.movielens_1m import Movielens1M
from embedkit_datasets.movielens_100k import Movielens100K
from embedkit_datasets.online_retail import OnlineRetail
from embedkit_datasets.python_api import PythonApi
from embedkit_datasets.s3rec import AmazonBeauty, AmazonSports, LastFM

CLASSES = {
    "python_api": PythonApi,
    "movielens_1m": Movielens1M,
    "online_retail": OnlineRetail,
    "movielens_100k": Movielens100K,
    "amazon_beauty": AmazonBeauty,
    "amazon_sports": AmazonSports,
    "lastfm": LastFM,
    "frappe": Frappe,
    "criteo_sample": CriteoSample,
    "adult": Adult,
    "california_housing": CaliforniaHousing,
    "higgs_sample": HiggsSample,
    "mnist": Mnist,
}
every_dataset = pytest.mark.parametrize("name", CLASSES)


def run_file(name: str) -> dict:
    return tomllib.loads(importlib.resources.files("embedkit_datasets").joinpath("runs", f"{name}.toml").read_text("utf-8"))


def test_every_data_set_is_registered() -> None:
    found: dict[str, str] = {}

    def register(name: str, target: str, *, config: str, summary: str) -> None:
        assert config == "embedkit_datasets.configs:NoOptions"
        assert summary
        found[name] = target

    embedkit_datasets.register_datasets(register)
    assert found == {name: f"{cls.__module__}:{cls.__name__}" for name, cls in CLASSES.items()}


@every_dataset
def test_cards_are_complete(name: str) -> None:
    dataset: Dataset = CLASSES[name](NoOptions(), context=None)
    card = dataset.card
    assert card.name == name
    for text in (card.title, card.description, card.licence, card.citation, card.source):
        assert len(text) > 10
    assert card.checksums
    assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", digest) for digest in card.checksums.values())
    assert card.tables


@every_dataset
def test_run_files_are_valid_and_name_the_tables_that_are_written(name: str) -> None:
    config = RunConfig.model_validate(run_file(name))
    card = CLASSES[name](NoOptions(), context=None).card
    assert {t.uri for t in config.tables.values()} == {f"{table}.parquet" for table in card.tables}
    for stage in run_file(name)["stages"]:
        TrainConfig.model_validate(stage)
    for table in config.tables.values():
        assert set(table.join.values()) <= set(config.tables)
    for field in config.fields.values():
        assert field.table in config.tables
    for tower in config.towers.values():
        assert set(tower) <= set(config.fields)
    assert all("exclude_seen" in use.options for use in config.evaluate if use.use == "retrieval")


def test_an_edited_run_file_is_kept(tmp_path: Path) -> None:
    lines: list[str] = []
    path = write_run_file("python_api", tmp_path, lines.append)
    write_run_file("python_api", tmp_path, lines.append)
    path.write_text("# mine\n")
    write_run_file("python_api", tmp_path, lines.append)
    assert path.read_text() == "# mine\n"
    assert lines[-1].startswith("kept")


def test_listing_the_data_sets_imports_nothing_heavy() -> None:
    modules = ", ".join(sorted({cls.__module__ for cls in CLASSES.values()}))
    code = f"import sys, {modules};print([m for m in ('torch', 'polars', 'pyarrow', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
