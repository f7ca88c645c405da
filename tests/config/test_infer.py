from __future__ import annotations

import tomllib

import polars as pl
import pytest

from embedkit.config.load import parse_run
from embedkit.config.resolve import resolve
from embedkit.config.starter import write_starter
from embedkit.errors import DataError, UsageError
from embedkit.host import Host


@pytest.fixture(scope="module")
def real():
    return Host.load().registry


@pytest.fixture
def items(tmp_path):
    frame = pl.DataFrame(
        {
            "id": list(range(1, 201)),
            "title": [f"a {'red' if n % 2 else 'blue'} thing called {n}" for n in range(200)],
            "brand": [f"b{n % 9}" for n in range(200)],
            "price": [1.5 * (n % 40) for n in range(200)],
            "tags": [["x", "y"][: n % 3] for n in range(200)],
            "same": ["one"] * 200,
        }
    )
    frame.write_parquet(tmp_path / "movies.parquet")
    return tmp_path / "movies.parquet"


def events(tmp_path, **columns):
    n = 1200
    base = {
        "movie_id": [1 + (7 * i) % 200 for i in range(n)],
        "user_id": [i % 50 for i in range(n)],
        "quantity": [1 + i % 5 for i in range(n)],
    }
    path = tmp_path / "ratings.parquet"
    pl.DataFrame(base | {name: [make(i) for i in range(n)] for name, make in columns.items()}).write_parquet(path)
    return path


def infer(paths, registry, tmp_path):
    out = tmp_path / "run.toml"
    write_starter(paths, out, registry, name="test", force=True)
    data = tomllib.loads(out.read_text())
    resolve(parse_run(data, where=str(out)), registry, base=tmp_path, where=str(out))
    return data


def test_items_and_events_with_times(items, tmp_path, real):
    from datetime import datetime, timedelta

    start = datetime(2024, 1, 1)
    data = infer([items, events(tmp_path, at=lambda i: start + timedelta(hours=i))], real, tmp_path)
    assert data["tables"]["movies"] == {"uri": "movies.parquet", "key": "id"}
    ratings = data["tables"]["ratings"]
    assert ratings["join"] == {"movie_id": "movies"}
    assert (ratings["user"], ratings["time"]) == ("user_id", "at")
    assert ratings["split"] == {"by": "time", "valid": "5d", "test": "5d"}
    kinds = {name: field["type"] for name, field in data["fields"].items()}
    assert kinds == {"id": "category", "title": "text", "brand": "category", "price": "number", "tags": "categories", "history": "sequence"}
    assert data["fields"]["history"]["domain"] == data["fields"]["id"]["domain"]
    assert data["stages"][0]["losses"][0]["use"] == "sampled_softmax"


def test_positions_order_events_and_nothing_gives_a_hash_split(items, tmp_path, real):
    ordered = infer([items, events(tmp_path, position=lambda i: i // 50)], real, tmp_path)["tables"]["ratings"]
    assert ordered["position"] == "position"
    assert ordered["split"]["by"] == "position"
    assert "time" not in ordered
    # A column that runs through the file is its row number, no order of a user's events.
    unordered = infer([items, events(tmp_path, source_order=lambda i: i)], real, tmp_path)["tables"]["ratings"]
    assert unordered["split"] == {"by": "hash", "key": ["user_id", "movie_id"], "valid": 0.1, "test": 0.2}


def test_a_log_alone_makes_its_items(tmp_path, real):
    log = events(tmp_path, title=lambda i: f"the film {(7 * i) % 200}", country=lambda i: "uk" if i % 9 else "de")
    data = infer([log], real, tmp_path)
    group = data["tables"]["items"]["group"]
    assert group["by"] == "movie_id"
    assert group["title"] == "mode"
    assert "country" not in group
    assert data["tables"]["ratings"]["join"] == {"movie_id": "items"}


def test_items_alone_learn_from_their_own_columns(items, tmp_path, real):
    data = infer([items], real, tmp_path)
    assert data["towers"] == {"item": ["title", "brand", "price", "tags"]}
    assert data["stages"][0]["losses"] == [{"use": "info_nce", "tower": "item", "views": ["a", "b"], "temperature": 0.1}]
    assert "# left out: movies.same (it has one value only)" in (tmp_path / "run.toml").read_text()


def test_csv_is_read_too(items, tmp_path, real):
    pl.read_parquet(items).drop("tags").write_csv(tmp_path / "movies.csv")
    data = infer([tmp_path / "movies.csv"], real, tmp_path)
    assert data["tables"]["movies"] == {"uri": "movies.csv", "key": "id", "split": {"by": "hash", "key": ["id"], "valid": 0.1}}


def test_tables_that_do_not_belong_together_are_refused(items, tmp_path, real):
    pl.DataFrame({"colour": ["red", "red"], "size": [1.5, 2.5]}).write_parquet(tmp_path / "other.parquet")
    with pytest.raises(UsageError, match="has a column whose values are the ids of another table"):
        write_starter([items, tmp_path / "other.parquet"], tmp_path / "run.toml", real)
    assert not (tmp_path / "run.toml").exists()


def test_a_missing_table_is_named(tmp_path, real):
    with pytest.raises((UsageError, DataError), match=r"nothing\.parquet"):
        write_starter([tmp_path / "nothing.parquet"], tmp_path / "run.toml", real)
