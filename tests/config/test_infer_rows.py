"""``embedkit init --ssl``: one table, no events, no labels."""

from __future__ import annotations

import tomllib

import polars as pl
import pytest

from embedkit.config.load import parse_run
from embedkit.config.resolve import resolve
from embedkit.config.starter import write_starter
from embedkit.errors import DataError, UsageError
from embedkit.host import Host
from embedkit.launch import prepare, trial


@pytest.fixture(scope="module")
def host():
    return Host.load()


def people(rows=200, **columns):
    base = {
        "user_id": [n % 40 for n in range(rows)],  # a name that would make it an event table without --ssl
        "item_id": [n % 7 for n in range(rows)],
        "age": [20.5 + n % 50 for n in range(rows)],
        "job": [f"job {n % 9}" for n in range(rows)],
        "same": ["one"] * rows,
        "nothing": pl.Series([None] * rows, dtype=pl.Float64),
        "rich": [n % 3 == 0 for n in range(rows)],
    }
    return pl.DataFrame(base | columns)


def start(frame, host, folder, **options):
    frame.write_parquet(folder / "people.parquet")
    out = folder / "run.toml"
    write_starter([folder / "people.parquet"], out, host.registry, name="people", force=True, ssl=True, **options)
    data = tomllib.loads(out.read_text())
    resolve(parse_run(data, where=str(out)), host.registry, base=folder, where=str(out))
    return data, out


def test_every_column_that_says_something_is_a_feature(host, tmp_path):
    data, out = start(people(), host, tmp_path)
    assert data["towers"] == {"row": ["user_id", "item_id", "age", "job", "rich"]}
    assert [use["use"] for use in data["stages"][0]["views"] + data["stages"][0]["losses"]] == ["cell_masking", "masked_cells"]
    assert "evaluate" not in data
    assert "left out: people.same (it has one value only)" in out.read_text()
    assert data["tables"]["people"]["split"] == {"by": "hash", "key": data["towers"]["row"], "valid": 0.1}
    trial(prepare(out, host).plan, host)


@pytest.mark.parametrize(
    "more",
    [
        {"words": [f"some words of {n} and {n * 7 % 31}" for n in range(200)]},
        {"several": [[f"a{n % 5}", f"b{n % 3}"] for n in range(200)]},
        {f"column_{k}": [float(n * (k + 1) % 101) for n in range(200)] for k in range(60)},
    ],
    ids=["texts", "lists", "many columns"],
)
def test_what_cannot_be_told_or_is_too_wide_is_known_again(host, tmp_path, more):
    data, out = start(people(**more), host, tmp_path)
    assert set(more) <= set(data["towers"]["row"])
    assert [use["use"] for use in data["stages"][0]["views"] + data["stages"][0]["losses"]] == ["corruption", "info_nce"]
    trial(prepare(out, host).plan, host)


@pytest.mark.parametrize(("label", "kind", "task"), [("rich", "category", "classification"), ("item_id", "category", "classification"),
                                                     ("age", "number", "regression"), ("job", "category", "classification")])  # fmt: skip
def test_a_label_is_probed_and_read_by_no_tower(host, tmp_path, label, kind, task):
    data, _ = start(people(), host, tmp_path, label=label)
    assert label not in data["towers"]["row"]
    assert data["fields"][label] == {"table": "people", "type": kind, "column": label, "role": "label"}
    assert data["evaluate"] == [{"use": "linear_probe", "tower": "row", "label": label, "task": task}]
    assert data["tables"]["people"]["split"]["test"] == 0.2


def test_a_split_column_is_taken(host, tmp_path):
    split = ["test" if n % 5 == 0 else "validation" if n % 5 == 1 else "train" for n in range(200)]
    data, _ = start(people(split=split), host, tmp_path, label="rich")
    assert data["tables"]["people"]["split"] == {"by": "column", "column": "split", "valid": "validation", "test": "test"}
    assert "split" not in data["towers"]["row"]


def test_a_key_is_no_feature_and_deals_the_rows(host, tmp_path):
    data, _ = start(people(person=[f"p{n}" for n in range(200)]), host, tmp_path)
    assert data["tables"]["people"]["key"] == "person"
    assert data["tables"]["people"]["split"]["key"] == ["person"]
    assert "person" not in data["towers"]["row"]


def test_a_handful_of_rows_is_not_split(host, tmp_path):
    data, out = start(people(5), host, tmp_path, label="rich")
    assert "split" not in data["tables"]["people"]
    assert data["stages"][0]["streams"]["main"]["size"] == 5
    assert "validate" not in data["stages"][0]
    trial(prepare(out, host).plan, host)


def test_what_cannot_be_learned_from_is_refused(host, tmp_path):
    for options, message in {
        ("label", "ritch"): r"init --label: .*people.parquet has no column 'ritch'; did you mean 'rich'\?",
        ("label", "same"): r"column 'same' of .* has one value only in 200 rows",
    }.items():
        with pytest.raises(UsageError, match=message):
            start(people(), host, tmp_path, **dict([options]))
    with pytest.raises(UsageError, match=r"has no column to learn from \(same: it has one value only; nothing: it has one value only\)"):
        start(people().select("same", "nothing"), host, tmp_path)
    with pytest.raises(DataError, match="holds no rows"):
        start(people(0), host, tmp_path)
    path = tmp_path / "people.parquet"
    people().write_parquet(path)
    with pytest.raises(UsageError, match="learns from the rows of one table, found 2"):
        write_starter([path, path], tmp_path / "other.toml", host.registry, ssl=True)
    with pytest.raises(UsageError, match="init --label: .*add --ssl"):
        write_starter([path], tmp_path / "other.toml", host.registry, label="rich")
