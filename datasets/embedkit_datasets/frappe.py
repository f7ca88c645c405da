"""Frappe: which app a person used, and in what context; clicks to predict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from embedkit.errors import DataError
from embedkit_datasets.plain import HandedDataset

if TYPE_CHECKING:
    import polars as pl

COLUMNS = ("user", "item", "daytime", "weekday", "is_weekend", "homework", "cost", "weather", "country", "city")


class Frappe(HandedDataset):
    """86,582 uses and non-uses of 4,082 apps by 957 users, each in a context of eight categories."""

    name = "frappe"
    title = "Frappe: apps used in context, with sampled negatives"
    description = (
        "Uses of mobile apps with their context (time of day, day of the week, place, weather, country, city, cost), label 1, and two "
        "sampled apps that were not used in it, label 0, as prepared for factorization machines. A part only: the validation (57,722 "
        "rows) and test (28,860) files of the usual 7:2:1 split; the train file (202,027 rows) is not in the prepared copy. So figures "
        "cannot be set beside published ones, and the starter run file deals all rows anew by a hash. Values are feature numbers that run "
        "through all columns (0 to 5,381), nothing is named. The negatives are as easy as random ones are."
    )
    licence = "Frappe terms: research use; no redistribution without permission, no commercial use"
    citation = (
        "Linas Baltrunas, Karen Church, Alexandros Karatzoglou and Nuria Oliver. 2015. Frappe: Understanding the Usage and Perception of "
        "Mobile App Recommendations In-The-Wild. https://arxiv.org/abs/1505.03014"
    )
    source = "https://github.com/hexiangnan/attentional_factorization_machine (folder data/frappe)"
    reason = "its terms forbid passing it on without permission"
    originals = {
        "frappe.validation.libfm": "sha256:fdf4be563a7dd9b15f7a6e8b32671e90e6e7a2a2bd3af4e10bf13c5ad7e76e9e",
        "frappe.test.libfm": "sha256:a2ebaef3a9af8e55f8bb0d08bc4923965e42e43760ebd7635ac2f8c5db99e097",
    }
    prepared_checksums = {"interactions.parquet": "sha256:d58d4298a57d3e64ec082547faf76ef15acc843921bdf3544329943180a3fec4"}
    tables = {"interactions": "an app in a context: split (of the usual parts), label (1 used, 0 sampled), user, item and the context"}

    def parse(self, files: Mapping[str, bytes]) -> dict[str, pl.DataFrame]:
        """LibFM lines, validation first."""
        import polars as pl

        rows = [(file.split(".")[1], *row) for file, data in files.items() for row in _lines(data, file)]
        types = {"split": pl.String, "label": pl.Int8} | dict.fromkeys(COLUMNS, pl.Int32)
        return {"interactions": pl.DataFrame(rows, schema=types, orient="row")}


def _lines(data: bytes, file: str) -> list[tuple[int, ...]]:
    """``label feature:1 …`` with label 1 or -1 and one feature a column, in the order of the columns."""
    rows = []
    for number, line in enumerate(data.decode("ascii").splitlines(), start=1):
        label, *features = line.split()
        numbers = [feature.removesuffix(":1") for feature in features]
        if label not in ("1", "-1") or len(numbers) != len(COLUMNS) or not all(n.isdecimal() for n in numbers):
            raise DataError(f"{file}, line {number}: wanted 1 or -1 and {len(COLUMNS)} features such as 451:1, found {line[:40]!r}")
        rows.append((int(label == "1"), *map(int, numbers)))
    return rows
