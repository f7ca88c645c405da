from __future__ import annotations

import hashlib
from pathlib import Path

import polars as pl
import pytest

from embedkit.errors import DataError
from embedkit_datasets.configs import NoOptions
from embedkit_datasets.criteo_sample import CriteoSample
from embedkit_datasets.frappe import Frappe
from embedkit_datasets.plain import HandedDataset

VALIDATION = b"1 266:1 1244:1 5042:1 5049:1 5054:1 5055:1 5058:1 5062:1 5074:1 5149:1\r\n"
TEST = b"-1 204:1 4798:1 5041:1 5046:1 5053:1 5055:1 5058:1 5060:1 5073:1 5183:1\r\n"
AD = "\t".join(["0", "3", "-1", "", *["0"] * 10, *[f"{n:08x}" for n in range(25)], ""]).encode() + b"\n"
ROWS = {Frappe: {"interactions": 86_582}, CriteoSample: {"impressions": 8_000}}


def brought(cls: type[HandedDataset], folder: Path, files: dict[str, bytes]) -> HandedDataset:
    made = cls(NoOptions(), context=None)
    made.originals = {name: "sha256:" + hashlib.sha256(data).hexdigest() for name, data in files.items()}
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return made


def test_original_files_of_frappe(tmp_path: Path) -> None:
    made = brought(Frappe, tmp_path, {"frappe.validation.libfm": VALIDATION, "frappe.test.libfm": TEST})
    table, _ = made.prepare(tmp_path / "out", prepared=tmp_path).tables["interactions"]
    assert pl.read_parquet(table).rows() == [
        ("validation", 1, 266, 1244, 5042, 5049, 5054, 5055, 5058, 5062, 5074, 5149),
        ("test", 0, 204, 4798, 5041, 5046, 5053, 5055, 5058, 5060, 5073, 5183),
    ]
    with pytest.raises(DataError, match=r"frappe\.x\.libfm, line 2: wanted 1 or -1 and 10 features"):
        made.parse({"frappe.x.libfm": VALIDATION + b"1 266:1 1244:0.5\n"})


def test_original_files_of_criteo(tmp_path: Path) -> None:
    made = brought(CriteoSample, tmp_path, {"train.csv": AD, "test.csv": AD})
    frame = pl.read_parquet(made.prepare(tmp_path / "out", prepared=tmp_path).tables["impressions"][0])
    assert frame["split"].to_list() == ["train", "test"]
    assert frame.select("label", "i1", "i2", "i3", "c1", "c25", "c26").row(0) == (0, 3, -1, None, "00000000", "00000018", None)
    with pytest.raises(DataError, match=r"dev\.csv, line 1: wanted a label 0 or 1, 13 whole numbers and 26 categories"):
        made.parse({"dev.csv": AD.replace(b"\t3\t", b"\tx\t")})
    with pytest.raises(DataError, match=r"dev\.csv, line 2: .*\(3 values\)"):
        made.parse({"dev.csv": AD + b"1\t2\t3\n"})


@pytest.mark.parametrize("cls", ROWS)
def test_what_to_bring_is_one_sentence(cls: type[HandedDataset], tmp_path: Path) -> None:
    made = cls(NoOptions(), context=None)
    first = next(iter(made.originals))
    with pytest.raises(DataError, match=rf"{cls.name}: is not downloaded, since .*; get {first}.* from https://.* with --from"):
        made.prepare(tmp_path / "out")
    with pytest.raises(DataError, match=rf"nowhere: no such folder; get {first}"):
        made.prepare(tmp_path / "out", prepared=tmp_path / "nowhere")
    with pytest.raises(DataError, match=rf"holds neither {first}.* nor .*\.parquet; get"):
        made.prepare(tmp_path / "out", prepared=tmp_path)
    (tmp_path / first).write_bytes(b"another")
    with pytest.raises(DataError, match=rf"{first}: its checksum is sha256:.*; get"):
        made.prepare(tmp_path / "out", prepared=tmp_path)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("cls", ROWS)
def test_prepared_copies_are_as_the_card_says(cls: type[HandedDataset], shared_datasets: Path, tmp_path: Path, rows_of_run_file) -> None:
    made = cls(NoOptions(), context=None).prepare(tmp_path / "out", prepared=shared_datasets / cls.name)
    assert {name: rows for name, (_, rows) in made.tables.items()} == ROWS[cls]
    assert rows_of_run_file(made.run_file) == ROWS[cls]
