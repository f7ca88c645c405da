"""MNIST as a table: handwritten digits, one number a patch of 2 by 2 pixels."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import TYPE_CHECKING

from embedkit.errors import DataError
from embedkit_datasets.download import Remote
from embedkit_datasets.files import with_valid
from embedkit_datasets.plain import FetchedDataset

if TYPE_CHECKING:
    import polars as pl

FOLDER = "https://ossci-datasets.s3.amazonaws.com/mnist"
FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
SIDE, PATCH = 28, 2
IMAGES, LABELS = 2051, 2049
"""First numbers of the files: three dimensions of bytes, and one."""


class Mnist(FetchedDataset):
    """70,000 handwritten digits as rows of 196 numbers."""

    name = "mnist"
    title = "MNIST as a table: handwritten digits in 196 numbers"
    description = (
        "70,000 handwritten digits of 28 by 28 grey pixels, of which the table holds the mean of each 2 by 2 pixels, 0 (paper) to 255 "
        "(ink): 196 columns pixel_<row>_<column>, so that models of tables can be tried on images. They know nothing of which pixels are "
        "neighbours. The published parts are kept: 10,000 test rows; of the 60,000 train rows every fifth is dealt to valid. Columns at "
        "the border are the same in nearly all rows. Nobody wrote for both parts."
    )
    licence = "not stated for MNIST itself"
    citation = (
        "Yann LeCun, Léon Bottou, Yoshua Bengio and Patrick Haffner. 1998. Gradient-Based Learning Applied to Document Recognition. "
        "Proceedings of the IEEE 86(11), 2278-2324. https://doi.org/10.1109/5.726791"
    )
    source = f"{FOLDER}/ ({', '.join(f'{file}.gz' for file in FILES)})"
    remotes = tuple(Remote(f"{FOLDER}/{file}.gz") for file in FILES)
    originals = {
        FILES[0]: "sha256:ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        FILES[1]: "sha256:65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        FILES[2]: "sha256:0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        FILES[3]: "sha256:ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    }
    prepared_checksums = {"images.parquet": "sha256:22f8f53be76dd9a6caf939d2f4168e010213febfd12b57e5c898abd2eb393a3c"}
    tables = {"digits": "a digit: split (train, valid, test), index, label (0 to 9), pixel_0_0 to pixel_13_13"}

    def parse(self, files: Mapping[str, bytes]) -> dict[str, pl.DataFrame]:
        """Images and labels in the IDX format, train first; ``index`` counts on through both parts."""
        import polars as pl

        train, test = (_part(files, images, labels) for images, labels in (FILES[:2], FILES[2:]))
        split = ["train"] * train.height + ["test"] * test.height
        images = pl.concat([train, test]).with_row_index("index")
        return {"images": images.select(pl.Series("split", split), pl.col("index").cast(pl.Int32), "label", "pixels")}

    def arrange(self, frames: dict[str, pl.DataFrame]) -> dict[str, pl.DataFrame]:
        """A column a patch; deal valid rows."""
        import numpy as np
        import polars as pl

        images, half = frames["images"], SIDE // PATCH
        pixels = np.frombuffer(b"".join(images["pixels"].to_list()), dtype=np.uint8).reshape(-1, half, PATCH, half, PATCH)
        patches = pixels.mean(axis=(2, 4), dtype=np.float32).reshape(len(pixels), -1)
        columns = {f"pixel_{i // half}_{i % half}": patches[:, i] for i in range(half * half)}
        return {"digits": with_valid(images.drop("pixels").hstack(pl.DataFrame(columns)))}


def _part(files: Mapping[str, bytes], images: str, labels: str) -> pl.DataFrame:
    import polars as pl

    magic, count, height, width = struct.unpack(">IIII", files[images][:16].ljust(16))
    if (magic, height, width) != (IMAGES, SIDE, SIDE) or len(files[images]) != 16 + count * SIDE * SIDE:
        raise DataError(f"{images}: is no file of {SIDE} by {SIDE} images in the IDX format")
    magic, labelled = struct.unpack(">II", files[labels][:8].ljust(8))
    if (magic, labelled) != (LABELS, count) or len(files[labels]) != 8 + count:
        raise DataError(f"{labels}: is no file of {count:,} labels in the IDX format")
    body = files[images][16:]
    size = SIDE * SIDE
    pixels = [body[i * size : (i + 1) * size] for i in range(count)]
    return pl.DataFrame({"label": pl.Series(list(files[labels][8:]), dtype=pl.Int8), "pixels": pl.Series(pixels, dtype=pl.Binary)})
