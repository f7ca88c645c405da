"""Adult, California housing, HIGGS and MNIST: tables with a label."""

from __future__ import annotations

import gzip
import hashlib
import io
import struct
import zipfile
from pathlib import Path

import polars as pl
import pytest

from embedkit.errors import DataError
from embedkit_datasets.adult import Adult
from embedkit_datasets.california_housing import CaliforniaHousing
from embedkit_datasets.configs import NoOptions
from embedkit_datasets.download import Remote
from embedkit_datasets.files import with_valid
from embedkit_datasets.higgs_sample import HiggsSample
from embedkit_datasets.mnist import FILES, Mnist
from embedkit_datasets.plain import FetchedDataset

PERSON = b"39, State-gov, 77516, Bachelors, 13, Never-married, ?, Not-in-family, White, Male, 2174, 0, 40, United-States, <=50K"
HOUSES = (
    b"longitude,latitude,housing_median_age,total_rooms,total_bedrooms,population,households,median_income,median_house_value,ocean_proximity\n"
    b"-122.23,37.88,41.0,880.0,129.0,322.0,126.0,8.3252,452600.0,0\n-122.5,37,1.0,1,,1,1,1.5,500001.0,3\n"
)
EVENT = "\t".join(["1", *(f"{n / 8}" for n in range(28))]).encode() + b"\n"
ROWS = {Adult: {"adult": 48_842}, CaliforniaHousing: {"housing": 20_640}, HiggsSample: {"events": 7_500}, Mnist: {"digits": 70_000}}


def idx(*images: int) -> tuple[bytes, bytes]:
    """Images whose pixels are all one number, which is the label too, in the IDX format."""
    pixels = b"".join(bytes([value]) * 784 for value in images)
    return struct.pack(">IIII", 2051, len(images), 28, 28) + pixels, struct.pack(">II", 2049, len(images)) + bytes(images)


def served(cls: type[FetchedDataset], serve, files: dict[str, bytes], packed: dict[str, bytes] | None = None) -> FetchedDataset:
    """The data set with its files on loopback; ``packed`` are what is served where that is not the files themselves."""
    made = cls(NoOptions(), context=None)
    made.remotes = tuple(Remote(serve(name, data)) for name, data in (packed or files).items())
    made.originals = {name: "sha256:" + hashlib.sha256(data).hexdigest() for name, data in files.items()}
    return made


def fetched(made: FetchedDataset, out: Path) -> pl.DataFrame:
    ((path, _),) = made.prepare(out).tables.values()
    return pl.read_parquet(path)


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def test_adult_comes_out_of_its_archive(serve, tmp_path: Path) -> None:
    files = {"adult.data": (PERSON + b"\n") * 5 + b"\n", "adult.test": b"|1x3 Cross validator\n" + PERSON + b".\n\n"}
    frame = fetched(served(Adult, serve, files, {"adult.zip": zipped(files)}), tmp_path)
    assert frame["split"].to_list() == ["train"] * 4 + ["valid", "test"]
    assert frame.select("age", "workclass", "occupation", "capital_gain", "income").row(5) == (39, "State-gov", None, 2174, "<=50K")
    made = Adult(NoOptions(), context=None)
    with pytest.raises(DataError, match=r"adult\.data, line 2: wanted 15 values"):
        made.parse({"adult.data": PERSON + b"\n1, 2\n"})
    with pytest.raises(DataError, match=r"adult\.test, line 1: wanted 15 values"):
        made.parse({"adult.test": PERSON.replace(b"39", b"old")})


def test_houses_get_whole_numbers_and_names(serve, tmp_path: Path) -> None:
    frame = fetched(served(CaliforniaHousing, serve, {"housing.csv": HOUSES}), tmp_path)
    assert frame.row(0) == (-122.23, 37.88, 41, 880, 129, 322, 126, 8.3252, 452600, "NEAR BAY")
    assert frame["total_bedrooms"].to_list() == [129, None]
    assert frame["ocean_proximity"].to_list() == ["NEAR BAY", "<1H OCEAN"]
    with pytest.raises(DataError, match=r"housing\.csv: wanted numbers in .* and 0 to 4 in ocean_proximity"):
        CaliforniaHousing(NoOptions(), context=None).parse({"housing.csv": HOUSES.replace(b",0\n", b",7\n")})


def test_collisions(serve, tmp_path: Path) -> None:
    frame = fetched(served(HiggsSample, serve, {"binary.train": EVENT * 2, "binary.test": EVENT}), tmp_path)
    assert frame["split"].to_list() == ["train", "train", "test"]
    assert frame.select("label", "lepton_pt", "jet_1_pt", "jet_4_b_tag", "m_wwbb").row(0) == (1, 0.0, 0.625, 2.5, 3.375)
    with pytest.raises(DataError, match=r"binary\.test, line 2: wanted a label 0 or 1 and 28 numbers"):
        HiggsSample(NoOptions(), context=None).parse({"binary.test": EVENT + b"1\t2\n"})


def test_digits_are_means_of_patches(serve, tmp_path: Path) -> None:
    train, test = idx(*range(7)), idx(9)
    ramp = train[0][:16] + bytes(range(28)) + train[0][44:]  # the first row of the first image
    files = dict(zip(FILES, (ramp, train[1], *test), strict=True))
    made = served(Mnist, serve, files, {f"{name}.gz": gzip.compress(data) for name, data in files.items()})
    frame = fetched(made, tmp_path)
    assert frame.select("split", "index", "label").rows() == [
        *(("train", i, i) for i in range(4)), ("valid", 4, 4), ("train", 5, 5), ("train", 6, 6), ("test", 7, 9),
    ]  # fmt: skip
    assert frame.select("pixel_0_0", "pixel_0_13", "pixel_1_0").row(0) == (0.25, 13.25, 0.0)
    assert frame.select("pixel_13_13").to_series().to_list()[1:] == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 9.0]
    with pytest.raises(DataError, match="train-labels-idx1-ubyte: is no file of 7 labels"):
        made.parse(files | {FILES[1]: train[1][:-1]})
    with pytest.raises(DataError, match="t10k-images-idx3-ubyte: is no file of 28 by 28 images"):
        made.parse(files | {FILES[2]: b"GIF"})


def test_a_damaged_archive_is_one_sentence(serve, tmp_path: Path) -> None:
    files = dict(zip(FILES, (*idx(1), *idx(2)), strict=True))
    packed = {f"{name}.gz": gzip.compress(data) for name, data in files.items()}
    for damaged in (b"no gzip", packed[f"{FILES[0]}.gz"][:-4]):
        made = served(Mnist, serve, files, packed | {f"{FILES[0]}.gz": damaged})
        with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz: damaged archive"):
            made.prepare(tmp_path / "out")
    made = served(Adult, serve, {"adult.data": PERSON, "adult.test": PERSON}, {"adult.zip": zipped({"adult.data": PERSON})})
    with pytest.raises(DataError, match=r"adult\.zip: holds no 'adult\.test'"):
        made.prepare(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_every_fifth_train_row_is_valid_wherever_the_test_rows_lie() -> None:
    frame = pl.DataFrame({"split": ["test", *["train"] * 4, "test", *["train"] * 3, "test", *["train"] * 3]})
    assert with_valid(frame)["split"].to_list() == [
        "test", *["train"] * 4, "test", "valid", "train", "train", "test", "train", "train", "valid",
    ]  # fmt: skip


@pytest.mark.parametrize("cls", ROWS)
def test_prepared_copies_are_as_the_card_says(cls: type[FetchedDataset], shared_datasets: Path, tmp_path: Path, rows_of_run_file) -> None:
    made = cls(NoOptions(), context=None).prepare(tmp_path, prepared=shared_datasets / cls.name)
    assert {name: rows for name, (_, rows) in made.tables.items()} == ROWS[cls]
    assert rows_of_run_file(made.run_file) == ROWS[cls]
