"""The whole way through the command line, on Parquet and on CSV."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from embedkit.testing.command import call, untouched


def test_the_run_file_that_init_writes_is_well(way):
    before = sorted(path.name for path in way.folder.iterdir())
    said = call("config", "check", way.folder / "run.toml").ok().out
    assert "categories" in said
    assert "is well" in said
    assert call("config", "check", way.folder / "run.toml", "--json").json["name"] == "shop"
    stepped = call("config", "check", way.folder / "run.toml", "--step", "--set", "model.dim=8", "--set", "compute.threads=1").ok()
    assert "step 1/1" in stepped.err
    assert sorted(path.name for path in way.folder.iterdir()) == before


def test_training_says_how_good_it_is_beside_baselines(way):
    first, slow = way.trained
    assert Path(first["run"]).name == "shop-s0-001"
    assert Path(slow["run"]).name == "slow-s0-001"
    named = {estimate["model"] for estimate in first["estimates"]}
    assert {"model", "popularity", "repeat_last", "markov"} <= named
    bounded = [one for one in first["estimates"] if one.get("low") is not None and not one["metric"].startswith("novelty@")]  # bits
    assert all(0 <= one["low"] <= one["value"] <= one["high"] <= 1 for one in bounded)


def test_evaluating_again_gives_the_same_figures(way):
    again = call("evaluate", way.run, "--device", "cpu", "--threads", "1", "--json").json
    said = {(e["model"], e["metric"], e["slice"]): e["value"] for e in way.trained[0]["estimates"] if e["split"] == "test"}
    assert again
    assert all(said[one["model"], one["metric"], one["slice"]] == pytest.approx(one["value"]) for one in again)


def test_two_runs_are_compared_query_by_query(way):
    runs = [one["run"] for one in way.trained]
    compared = call("compare", *runs, "--json").json
    assert compared
    text = call("compare", *runs).ok().out
    assert "ndcg@10" in text
    assert "slow" in text


def test_runs_and_bundles_are_listed(way):
    listed = call("runs", "--runs-dir", way.folder / "runs", "--json").json
    assert {Path(one["run"]).name: one["state"] for one in listed} == {"shop-s0-001": "finished", "slow-s0-001": "finished"}
    assert "none damaged" in call("bundle", "inspect", way.run).ok().out
    assert set(call("bundle", "inspect", way.run, "--json").json["spaces"]) == {"item", "user"}


def test_embedding_again_changes_nothing(way):
    with untouched(way.vectors):
        done = call("embed", way.run, way.folder / "items.parquet", "--out", way.folder / "again", "--json").json
        assert done["complete"] is True
        call("embed", way.run, "--out", way.vectors).ok()
    assert way.built["rows"] == 60
    assert way.built["recall"] == 1.0


def test_four_ways_to_search(way):
    def ask(*arguments):
        return [one["id"] for one in call("search", way.index, *arguments, "--json").json[0]["neighbours"]]

    near = ask("--id", "i003", "-k", 59)
    assert sorted([*near, "i003"]) == sorted(f"i{n:03d}" for n in range(60))
    assert len(ask("--text", "red gloves", "-k", 3)) == 3
    own = pl.read_parquet(way.folder / "items.parquet").row(7, named=True)
    assert "i007" in ask("--row", _json(own), "-k", 3)
    assert not {"i001", "i002"} & set(ask("--history", "i001,i002", "--exclude-seen", "-k", 5))
    cheap = call("search", way.index, "--text", "hat", "-k", 4, "--where", "price < 30", "--show", "price", "--json").json[0]["neighbours"]
    assert all(one["price"] < 30 for one in cheap)
    assert len(call("search", way.index, "--id", "i003", "--id", "i004", "-k", 2, "--json").json) == 2
    assert "i0" in call("search", way.index, "--history", "i001", "-k", 2).ok().out


def _json(row):
    import json

    return json.dumps(row)


def test_neighbours_of_all_and_recommendations(way, tmp_path):
    assert call("neighbours", way.index, "--all", "-k", 5, "--out", tmp_path / "n.parquet", "--json").json["rows"] == 300
    near = pl.read_parquet(tmp_path / "n.parquet")
    assert near.columns == ["id", "rank", "neighbour", "score"]
    assert near.filter(pl.col("id") == pl.col("neighbour")).is_empty()
    call("recommend", way.index, "-k", 4, "--out", tmp_path / "r.parquet", "--json").ok()
    best = pl.read_parquet(tmp_path / "r.parquet")
    seen = pl.read_parquet(way.folder / "events.parquet").select(user="user_id", item="item_id")
    assert best.group_by("user").len()["len"].to_list() == [4] * 40
    assert best.join(seen, on=["user", "item"]).is_empty()


def test_items_alone_as_csv(shop):
    frame = shop.items.drop("tags")
    frame.write_csv("items.csv")
    call("init", "items.csv", "--out", "run.toml").ok()
    trained = call("train", "run.toml", "--set", "model.dim=8", "--set", "stages.0.epochs=1", "--threads", "1", "--json").json
    call("embed", trained[0]["run"], "--out", "vectors").ok()
    call("index", "vectors", "--out", "index", "--use", "exact").ok()
    found = call("search", "index", "--id", "i003", "-k", 2, "--json").json
    assert len(found[0]["neighbours"]) == 2


def test_csv_and_parquet_give_the_same_items(shop, way):
    """A catalogue as CSV is embedded as the Parquet one that the bundle was trained on."""
    frame = shop.items.drop("tags")
    frame.write_csv("items.csv")
    frame.write_parquet("same.parquet")
    run = shop.text.replace("items.parquet", "same.parquet").replace(', "tags"', "")
    run = "\n".join(line for line in run.splitlines() if not line.startswith("tags ="))
    shop.write()
    (shop.folder / "run.toml").write_text(run)
    folder = shop.train("--json").json[0]["run"]
    for name in ("same.parquet", "items.csv"):
        call("embed", folder, name, "--out", f"vectors-{name}").ok()
    same, csv = (pl.read_parquet(f"vectors-{name}/part-00000.parquet") for name in ("same.parquet", "items.csv"))
    assert same["id"].to_list() == csv["id"].to_list()
    assert same["hash"].to_list() == csv["hash"].to_list()
    assert same["vector"].to_list() == csv["vector"].to_list()


def test_a_shell_runs_it(way):
    """As a person does: a process of its own, results on standard output alone, and a pipe that is closed early."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    program = [sys.executable, "-c", "import sys; from embedkit.cli import main; sys.exit(main())"]
    found = subprocess.run(
        [*program, "search", way.index, "--id", "i003", "-k", "2", "--json"], capture_output=True, text=True, env=environment
    )
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout.startswith("[")
    wrong = subprocess.run([*program, "search", way.index, "--id", "i0033"], capture_output=True, text=True, env=environment)
    assert wrong.returncode == 2
    assert wrong.stdout == ""
    assert wrong.stderr.startswith("embedkit: id 'i0033' is not in")
    assert wrong.stderr.count("\n") == 1
