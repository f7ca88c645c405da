"""Keys are checked by hashes: in memory or spilled, duplicates are found and collisions are no duplicates."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from embedkit.data import checks
from embedkit.errors import DataError


def check(values, size: int = 100) -> None:
    parts = [(start, pa.array(values[start : start + size])) for start in range(0, len(values), size)]
    checks.check_key(lambda: iter(parts), table="items", column="id", place=lambda row: f"row {row}")


@pytest.fixture(params=[1 << 20, 250], ids=["held", "spilled"])
def limit(request, monkeypatch):
    monkeypatch.setattr(checks, "_HELD", request.param)


@pytest.mark.usefixtures("limit")
@pytest.mark.parametrize("kind", [int, str])
def test_a_value_that_stands_twice_is_found_wherever_it_stands(kind):
    values = [kind(value) for value in range(1000)]
    check(values)
    for first, second in ((0, 1), (3, 998), (640, 710)):
        wrong = values.copy()
        wrong[second] = wrong[first]
        with pytest.raises(DataError, match=f"twice, in row {first} and row {second}; keys must be unique"):
            check(wrong)


@pytest.mark.usefixtures("limit")
def test_a_value_that_is_not_there_is_found():
    with pytest.raises(DataError, match="key column 'id' has no value in row 705"):
        check([None if value == 705 else value for value in range(1000)])


@pytest.mark.usefixtures("limit")
def test_equal_hashes_of_different_values_are_no_duplicates(monkeypatch):
    monkeypatch.setattr(checks, "_hashed", lambda values: np.asarray(values).astype(np.uint64) // np.uint64(2) << np.uint64(40))
    check(list(range(1000)))
    with pytest.raises(DataError, match="holds 8 twice, in row 8 and row 9"):
        check([8 if value == 9 else value for value in range(1000)])


@pytest.mark.usefixtures("limit")
def test_nothing_is_left_of_what_was_spilled(tmp_path, monkeypatch):
    monkeypatch.setattr(checks.tempfile, "tempdir", str(tmp_path))
    check(list(range(1000)))
    assert not list(tmp_path.iterdir())
