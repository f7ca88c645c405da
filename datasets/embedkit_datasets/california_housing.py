"""California housing: the median value of houses in a block group, from the census of 1990."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING

from embedkit.errors import DataError
from embedkit_datasets.download import Remote
from embedkit_datasets.plain import FetchedDataset

if TYPE_CHECKING:
    import polars as pl

REVISION = "7f602ef45042435f81d33cd1ffba635aa6b68c4d"
OCEAN = {0: "NEAR BAY", 1: "INLAND", 2: "NEAR OCEAN", 3: "<1H OCEAN", 4: "ISLAND"}
"""The file has numbers for names; told apart by how often each occurs in the original."""
WHOLE = ("housing_median_age", "total_rooms", "total_bedrooms", "population", "households", "median_house_value")


class CaliforniaHousing(FetchedDataset):
    """20,640 block groups: place, rooms, people, income, and what a house is worth there."""

    name = "california_housing"
    title = "California housing: the median value of houses in a block group"
    description = (
        "20,640 block groups of the census of 1990: place, age of the houses, rooms, people, households, income (in 10,000 dollars) and "
        "distance to the ocean; the label is the median value of a house in dollars. It is cut off at 500,001 (4.7% of the rows), so a "
        "model meets a wall there. 207 rows have no total_bedrooms. Neighbouring rows are neighbouring places: a split by a hash, as in "
        "the starter run file, measures filling gaps on the map, not new towns. ocean_proximity was numbered in the source file and is "
        "named here by how often each value occurs."
    )
    licence = "not stated for the data (StatLib, Pace and Barry 1997); the repository that it is fetched from is Apache-2.0"
    citation = "R. Kelley Pace and Ronald Barry. 1997. Sparse Spatial Autoregressions. Statistics and Probability Letters 33(3), 291-297."
    source = f"https://raw.githubusercontent.com/pigdogbaby/Multimodal-Toolkit/{REVISION}/datasets/housing/housing.csv"
    remotes = (Remote(source),)
    originals = {"housing.csv": "sha256:68b26c49151b8100b63fb21a12b2752edb112a1484150f1707407b9eaff4c6df"}
    prepared_checksums = {"housing.parquet": "sha256:b38671ae567b7fa5ab630838e7d189f65ade25fbc4284a1590ed41d4bedd1d7f"}
    tables = {"housing": "a block group: place, eight attributes, median_house_value in dollars"}

    def parse(self, files: Mapping[str, bytes]) -> dict[str, pl.DataFrame]:
        """The CSV file, whole numbers as such and the ocean by name."""
        import polars as pl

        try:
            frame = pl.read_csv(io.BytesIO(files["housing.csv"]))
            whole = [pl.col(name).cast(pl.Int32) for name in WHOLE]
            ocean = pl.col("ocean_proximity").cast(pl.Int64).replace_strict(OCEAN, return_dtype=pl.String)
            return {"housing": frame.with_columns(*whole, ocean_proximity=ocean)}
        except pl.exceptions.PolarsError as error:
            line = str(error).splitlines()[0]
            raise DataError(f"housing.csv: wanted numbers in {', '.join(WHOLE)} and 0 to 4 in ocean_proximity ({line})") from None
