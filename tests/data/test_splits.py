from __future__ import annotations

import sys
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from fakes import open_store

from embedkit.errors import DataError, UsageError

DAY = datetime(2024, 5, 1)


def split(tmp_path, columns, log=None, **config):
    return open_store(tmp_path, {"rows": (columns, config)}, log=log).tables["rows"].split.tolist()


@pytest.mark.parametrize("kind", ["timestamp", "text", "date", "seconds", "milliseconds", "float"])
def test_split_by_time_takes_the_last_periods(tmp_path, kind):
    days = [0, 9, 3, 5, 6, 7, 8]
    stamps = [DAY + timedelta(days=d) for d in days]
    columns = {
        "timestamp": pa.array(stamps, pa.timestamp("ns")),
        "text": [s.isoformat() for s in stamps],
        "date": pa.array([s.date() for s in stamps]),
        "seconds": [int(s.timestamp()) for s in stamps],
        "milliseconds": [int(s.timestamp() * 1000) for s in stamps],
        "float": [s.timestamp() for s in stamps],
    }
    found = split(tmp_path, {"t": columns[kind]}, time="t", split={"by": "time", "valid": "48h", "test": "2d"})
    assert found == [0, 2, 0, 0, 1, 1, 2]


def test_split_by_time_takes_timestamps_and_plain_numbers(tmp_path):
    stamps = pa.array([DAY + timedelta(days=d) for d in range(5)])
    config = {"time": "t", "split": {"by": "time", "valid": "2024-05-03", "test": "2024-05-04T00:00:00"}}
    assert split(tmp_path, {"t": stamps}, **config) == [0, 0, 1, 2, 2]
    assert split(tmp_path, {"t": [1, 2, 3, 4, 5]}, time="t", split={"by": "time", "valid": 1, "test": 2}) == [0, 0, 1, 2, 2]
    with pytest.raises(UsageError, match=r"tables\.rows\.split\.test: 'a week' is neither a duration"):
        split(tmp_path, {"t": stamps}, time="t", split={"by": "time", "test": "a week"})
    with pytest.raises(UsageError, match="test comes last"):
        split(tmp_path, {"t": stamps}, time="t", split={"by": "time", "valid": "2024-05-04", "test": "2024-05-02"})
    with pytest.raises(DataError, match="leaves no train row of 5"):
        split(tmp_path, {"t": stamps}, time="t", split={"by": "time", "test": "30d"})


def test_bad_times(tmp_path):
    config = {"time": "t", "split": {"by": "time", "test": 1}}
    with pytest.raises(DataError, match=r"column 't' orders the rows but has no value in row 1 of rows\.parquet"):
        split(tmp_path, {"t": [1, None, 3]}, **config)
    with pytest.raises(DataError, match=r"is NaN in row 2 of rows\.parquet"):
        split(tmp_path, {"t": [1.0, 2.0, float("nan")]}, **config)
    with pytest.raises(DataError, match=r"holds '12/31/2020' in row 1 of rows\.parquet; times in text must be ISO 8601"):
        split(tmp_path, {"t": ["2020-12-30", "12/31/2020", "2021-01-01"]}, **config)
    with pytest.raises(DataError, match=r"column 't' is bool"):
        split(tmp_path, {"t": [True, False]}, **config)


def test_split_by_position_leaves_each_users_last_events_out(tmp_path):
    log: list[str] = []
    columns = {"u": [1, 2, 1, 1, 2, 1, 3], "p": [3, 0, 1, 2, 1, 0, 0]}
    config = {"user": "u", "position": "p", "split": {"by": "position", "valid": 1, "test": 1}}
    assert split(tmp_path, columns, log, **config) == [2, 0, 0, 1, 0, 0, 0]
    assert any("2 of 3 users have at most 2 events" in line for line in log)
    with pytest.raises(UsageError, match="needs each user's order"):
        split(tmp_path, columns, **(config | {"position": None}))
    columns["p"][0] = 2
    with pytest.raises(DataError, match=r"'p' is equal in row 0 of rows\.parquet and row 3 of rows\.parquet, two events of one user"):
        split(tmp_path, columns, **config)
    columns["p"] = [0.5] * 7
    with pytest.raises(DataError, match="must hold integers"):
        split(tmp_path, columns, **config)


def test_split_by_hash_is_stable_and_keeps_equal_keys_together(tmp_path):
    n = 20_000
    columns = {"k": np.arange(n) // 2, "x": np.zeros(n)}
    config = {"split": {"by": "hash", "key": ["k"], "valid": 0.1, "test": 0.2}}
    found = np.array(split(tmp_path, columns, **config))
    assert (found[::2] == found[1::2]).all()
    shares = np.bincount(found, minlength=3) / n
    assert np.allclose(shares, [0.7, 0.1, 0.2], atol=0.015)
    assert (found[:200:2].tolist()) == np.array(split(tmp_path, {"k": np.arange(100)}, **config)).tolist()
    with pytest.raises(UsageError, match="needs 'key'"):
        split(tmp_path, columns, split={"by": "hash", "test": 0.2})
    with pytest.raises(UsageError, match="leave rows for training"):
        split(tmp_path, columns, split={"by": "hash", "key": ["k"], "valid": 0.5, "test": 0.5})
    with pytest.raises(UsageError, match="not a share"):
        split(tmp_path, columns, split={"by": "hash", "key": ["k"], "test": 2})


def test_split_by_column(tmp_path):
    columns = {"s": ["train", "dev", None, "test", "other"], "n": [0, 1, 2, 0, 1]}
    assert split(tmp_path, columns, split={"by": "column", "column": "s", "valid": "dev", "test": "test"}) == [0, 1, 0, 2, 0]
    assert split(tmp_path, columns, split={"by": "column", "column": "n", "valid": 1, "test": 2}) == [0, 1, 2, 0, 1]
    assert split(tmp_path, columns) == [0] * 5


def test_a_split_that_deals_nothing_is_warned_of(tmp_path):
    log: list[str] = []
    split(tmp_path, {"s": ["a", "b"]}, log, split={"by": "column", "column": "s", "test": "test"})
    assert "warning: table 'rows': its split deals no test rows" in log


def test_test_rows_that_stand_in_train_or_before_it_are_warned_of(tmp_path):
    log: list[str] = []
    columns = {"u": [1, 1, 2, 2, 2], "i": ["a", "a", "a", "b", "c"], "t": [1, 2, 3, 4, 5], "s": ["", "x", "", "", "x"]}
    config = {"user": "u", "time": "t", "join": {"i": "items"}, "split": {"by": "column", "column": "s", "test": "x"}}
    open_store(tmp_path, {"items": ({"id": ["a", "b", "c"]}, {"key": "id"}), "events": (columns, config)}, log=log)
    assert "warning: table 'events': 1 of 2 test rows have a user and item that also stand together in a train row" in log
    assert any("1 of 2 test rows lie before the last train row in time" in line for line in log)
    log.clear()
    columns = {"id": [1, 2, 3], "a": ["x", "y", "x"], "s": ["", "", "x"]}
    split(tmp_path, columns, log, key="id", split={"by": "column", "column": "s", "test": "x"})
    assert "warning: table 'rows': 1 of 1 test rows are equal to a train row" in log
