from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import polars as pl
import pytest

from embedkit.errors import DataError
from embedkit_datasets.configs import NoOptions
from embedkit_datasets.download import Remote
from embedkit_datasets.s3rec import AmazonBeauty, AmazonSports, LastFM, S3RecDataset, attributes_of, interactions_of

USERS = b"1 7 8 9\n2 9 7\n"
ITEMS = b'{"9": [3], "7": [2, 1, 2], "8": []}'
ROWS = {
    AmazonBeauty: {"interactions": 198_502, "item_attributes": 12_101},
    AmazonSports: {"interactions": 296_337, "item_attributes": 18_357},
    LastFM: {"interactions": 52_551, "item_attributes": 3_646},
}


def served(cls: type[S3RecDataset], serve, users: bytes = USERS, items: bytes = ITEMS) -> S3RecDataset:
    made = cls(NoOptions(), context=None)
    files = {"users.txt": users, "items.json": items}
    made.remotes = tuple(Remote(serve(name, data)) for name, data in files.items())
    made.originals = {name: "sha256:" + hashlib.sha256(data).hexdigest() for name, data in files.items()}
    return made


def test_download_gives_the_two_tables(serve, tmp_path: Path) -> None:
    made = served(LastFM, serve).prepare(tmp_path)
    frames = {name: pl.read_parquet(path) for name, (path, _) in made.tables.items()}
    assert frames["interactions"].rows() == [(1, 0, 7), (1, 1, 8), (1, 2, 9), (2, 0, 9), (2, 1, 7)]
    assert frames["item_attributes"].rows() == [(7, [2, 1, 2]), (8, []), (9, [3])]
    assert 'name = "lastfm"' in made.run_file.read_text()


def test_a_file_that_has_changed_is_refused(serve, tmp_path: Path) -> None:
    made = served(LastFM, serve)
    made.originals = {**made.originals, "items.json": "sha256:0"}
    with pytest.raises(DataError, match=r"items\.json: its checksum is not the recorded sha256:0"):
        made.prepare(tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("cls", ROWS)
def test_the_address_names_a_commit(cls: type[S3RecDataset]) -> None:
    """Files on a branch may change; those of a commit cannot."""
    for remote in cls.remotes:
        assert "/49a890dcb516c9ed3126564495234ea74d5cd566/data/" in remote.url


def test_malformed_files_are_one_sentence() -> None:
    with pytest.raises(DataError, match=r"x\.txt, line 2: wanted a user's id and item ids"):
        interactions_of("1 2\n1,2\n", "x.txt")
    with pytest.raises(DataError, match=r"x\.txt, line 1: wanted"):
        interactions_of("\n", "x.txt")
    for text in ("{", "[1]", '{"1": 2}', '{"a": [1]}'):
        with pytest.raises(DataError, match=r"x\.json: wanted a JSON object"):
            attributes_of(text, "x.json")


@pytest.mark.parametrize("cls", ROWS)
def test_prepared_copies_are_as_the_card_says(cls: type[S3RecDataset], shared_datasets: Path, tmp_path: Path, rows_of_run_file) -> None:
    folder = shared_datasets / cls.name
    made = cls(NoOptions(), context=None).prepare(tmp_path / "out", prepared=folder)
    assert {name: rows for name, (_, rows) in made.tables.items()} == ROWS[cls]
    assert rows_of_run_file(made.run_file) == {"interactions": ROWS[cls]["interactions"], "items": ROWS[cls]["item_attributes"]}
    events, items = (pl.read_parquet(folder / f"{name}.parquet") for name in cls.tables)
    assert interactions_of("1 2", "x").schema == events.schema
    assert attributes_of('{"1": [2]}', "x").schema == items.schema
    assert not events.select("user_id", "item_id").is_duplicated().any()
    assert events.group_by("item_id").len()["len"].min() >= 5


def test_another_copy_is_refused(shared_datasets: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(shared_datasets / "lastfm", copy)
    copy.chmod(0o755)
    (copy / "interactions.parquet").chmod(0o644)
    (copy / "interactions.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"interactions\.parquet: its checksum is"):
        LastFM(NoOptions(), context=None).prepare(tmp_path / "out", prepared=copy)
    assert not (tmp_path / "out").exists()
