"""Odd tables on the way init --ssl, train, embed: sensible vectors, or one clear sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from embedkit.testing.command import call, untouched

TINY = ("--set", "model.dim=8", "--set", "stages.0.epochs=2", "--threads", "1", "--device", "cpu")


def rows(count: int = 80) -> pl.DataFrame:
    """Rows with a key, a category and two numbers."""
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 4, count)
    return pl.DataFrame(
        {
            "row_id": [f"r{n}" for n in range(count)],
            "kind": [f"k{k}" for k in kind],
            "size": kind + rng.normal(size=count),
            "weight": rng.normal(size=count),
        }
    )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    return here


def trained(frame: pl.DataFrame, *options: object) -> str:
    """The run of a table."""
    frame.write_parquet("rows.parquet")
    call("init", "rows.parquet", "--ssl", "--name", "rows", "--force", *options).ok()
    return call("train", "run.toml", *TINY, "--json").json[0]["run"]


def embedded(run: str, frame: pl.DataFrame, out: str = "vectors") -> np.ndarray:
    """Vectors of a table by the run's bundle, checked to be finite and not nothing."""
    frame.write_parquet("more.parquet")
    call("embed", run, "more.parquet", "--out", out, "--device", "cpu").ok()
    found = pl.concat([pl.read_parquet(path) for path in sorted(Path(out).glob("part-*.parquet"))])
    vectors = np.stack(found["vector"].to_list())
    assert len(vectors) == len(frame)
    assert np.isfinite(vectors).all()
    assert (np.linalg.norm(vectors, axis=1) > 0.1).all()
    return vectors


def test_constant_and_missing_columns_are_left_out_and_told(folder):
    frame = rows().with_columns(same=pl.lit(7), nothing=pl.lit(None, pl.Float64), untyped=pl.lit(None))
    run = trained(frame)
    text = Path("run.toml").read_text()
    for column in ("same", "nothing", "untyped"):
        assert f"# left out: rows.{column} (it has one value only)" in text
    embedded(run, frame)


@pytest.mark.parametrize(
    "column",
    [{"same": pl.lit(7.0)}, {"nothing": pl.lit(None, pl.Float64)}, {"word": pl.lit(None, pl.String)}],
    ids=["same", "nothing", "word"],
)
def test_such_columns_do_no_harm_in_a_run_file_that_names_them(folder, column):
    name = next(iter(column))
    kind = "category" if name == "word" else "number"
    frame = rows().with_columns(**column)
    frame.write_parquet("rows.parquet")
    call("init", "rows.parquet", "--ssl", "--name", "rows").ok()
    text = Path("run.toml").read_text()
    text = text.replace("[towers]", f'{name} = {{ table = "rows", type = "{kind}" }}\n[towers]').replace('["kind"', f'["{name}", "kind"')
    Path("run.toml").write_text(text)
    run = call("train", "run.toml", *TINY, "--json").json[0]["run"]
    plain = embedded(run, frame)
    given = frame.with_columns(pl.lit("new" if kind == "category" else 12.0).alias(name))
    assert not np.array_equal(embedded(run, given, "given"), plain)


def test_ten_thousand_categories(folder):
    frame = rows(20_000).with_columns(town=pl.Series([f"town {n % 10_000}" for n in range(20_000)]))
    run = trained(frame)
    assert '"town"' in Path("run.toml").read_text()
    embedded(run, frame.head(500))


def test_numbers_of_any_size(folder):
    huge = pl.when(pl.int_range(pl.len()) % 9 == 0).then(pl.lit(1e300)).otherwise(pl.col("size"))
    frame = rows().with_columns(size=huge)
    run = trained(frame)
    vectors = embedded(run, frame)
    assert len(np.unique(vectors.round(4), axis=0)) > 10  # one absurd column hides no row
    embedded(run, frame.with_columns(size=pl.lit(-1.7e308)), "other")


def test_unseen_categories_are_one_unknown_value(folder):
    run = trained(rows())
    first, second = (embedded(run, rows().with_columns(kind=pl.lit(word)), word) for word in ("walrus", "carpenter"))
    assert np.array_equal(first, second)


def test_columns_that_are_missing_or_of_another_type_when_embedding(folder):
    run = trained(rows())
    for frame, parts in {
        "missing": (rows().drop("size"), ("more.parquet", "has no column 'size'", "row_id, kind, weight")),
        "text for numbers": (rows().with_columns(size=pl.lit("big")), ("column 'size'", "more.parquet", "wanted a number")),
        "lists for categories": (rows().with_columns(kind=pl.concat_list("kind")), ("column 'kind'", "more.parquet")),
        "infinite": (rows().with_columns(weight=pl.lit(float("inf"))), ("column 'weight'", "inf", "row 0 of more.parquet")),
    }.values():
        frame.write_parquet("more.parquet")
        with untouched(folder):
            call("embed", run, "more.parquet", "--out", "vectors", "--device", "cpu").refused(*parts)
    whole = rows().with_columns(size=pl.col("size").round().cast(pl.Int64))  # integers are numbers too
    embedded(run, whole)


def test_a_file_of_mixed_types(folder):
    """CSV knows no types: a column of numbers and words is text, and such a column is no number later."""
    run = trained(rows())
    frame = rows().with_columns(size=pl.when(pl.col("kind") == "k0").then(pl.lit("many")).otherwise(pl.col("size").cast(pl.String)))
    frame.write_csv("more.csv")
    with untouched(folder):
        call("embed", run, "more.csv", "--out", "vectors", "--device", "cpu").refused("column 'size'", "more.csv", "wanted a number")
    call("init", "more.csv", "--ssl", "--name", "more", "--out", "more.toml").ok()
    call("train", "more.toml", *TINY).ok()


def test_one_row_and_no_row(folder):
    rows(1).write_parquet("rows.parquet")
    with untouched(folder):
        call("init", "rows.parquet", "--ssl").refused("rows.parquet has no column to learn from", "kind: it has one value only")
        call("init", "rows.parquet", "--ssl", "--label", "kind").refused("column 'kind' of rows.parquet has one value only in 1 rows")
    rows(0).write_parquet("rows.parquet")
    with untouched(folder):
        call("init", "rows.parquet", "--ssl").refused("table 'rows'", "rows.parquet holds no rows", "give files with rows")
    run = trained(rows())
    embedded(run, rows(1), "one")
    rows(0).write_parquet("more.parquet")
    with untouched(folder):
        call("embed", run, "more.parquet", "--out", "none", "--device", "cpu").refused("more.parquet holds no rows")


def test_two_rows_are_enough(folder):
    embedded(trained(rows(2)), rows(2))
