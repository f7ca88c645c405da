"""init → train → evaluate → embed → index → search → neighbours → recommend, through the command line."""

from __future__ import annotations

import json

import polars as pl
import pytest


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return {"root": tmp_path_factory.mktemp("way")}


def ok(answer):
    assert answer.code == 0, answer.err
    return answer.out


def test_the_whole_way(shop, embedkit):
    run, runs = shop / "run.toml", shop / "runs"
    ok(embedkit("init", shop / "items.parquet", shop / "events.parquet", "--out", run, "--name", "shop"))
    small = ("--set", "stages.0.epochs=1", "--set", "model.dim=16", "--runs-dir", runs, "--threads", "1", "--device", "cpu")
    done = json.loads(ok(embedkit("train", run, *small, "--seeds", "2", "--json")))
    assert [one["run"].rpartition("/")[2] for one in done] == ["shop-s0-001", "shop-s1-001"]
    assert {"model", "popularity"} <= {estimate["model"] for estimate in done[0]["estimates"]}

    listed = json.loads(ok(embedkit("runs", "--runs-dir", runs, "--json")))
    assert [one["state"] for one in listed] == ["finished", "finished"]
    folder = done[0]["run"]
    again = json.loads(ok(embedkit("evaluate", folder, "--device", "cpu", "--threads", "1", "--json")))
    figures = {(e["model"], e["metric"], e["slice"]): e["value"] for e in done[0]["estimates"] if e["split"] == "test"}
    assert all(figures[one["model"], one["metric"], one["slice"]] == pytest.approx(one["value"]) for one in again)
    assert "ndcg@10" in ok(embedkit("evaluate", folder, "--split", "valid", "--device", "cpu"))

    assert "none damaged" in ok(embedkit("bundle", "inspect", folder))
    vectors, index = shop / "vectors", shop / "index"
    ok(embedkit("embed", folder, shop / "items.parquet", "--out", vectors, "--tower", "item", "--device", "cpu"))
    built = json.loads(ok(embedkit("index", vectors, "--out", index, "--json")))
    assert built["rows"] == 60

    _search(embedkit, index)
    ok(embedkit("neighbours", index, "--all", "-k", 5, "--option", "ef=70", "--out", shop / "neighbours.parquet"))
    assert pl.read_parquet(shop / "neighbours.parquet").height == 60 * 5
    ok(embedkit("recommend", index, "-k", 3, "--option", "ef=70", "--out", shop / "recommended.parquet"))
    recommended = pl.read_parquet(shop / "recommended.parquet")
    seen = pl.read_parquet(shop / "events.parquet").select(user="user_id", item="item_id")
    assert recommended["user"].n_unique() == 40
    assert recommended.join(seen, on=["user", "item"]).is_empty()


def _search(embedkit, index):
    near = json.loads(ok(embedkit("search", index, "--id", "i003", "-k", 4, "--json")))[0]["neighbours"]
    assert len(near) == 4
    assert "i003" not in {one["id"] for one in near}
    by_text = json.loads(ok(embedkit("search", index, "--text", "red gloves", "-k", 3, "--where", "price < 40", "--json")))[0]["neighbours"]
    assert all(one["price"] < 40 for one in by_text)
    assert "i0" in ok(embedkit("search", index, "--row", '{"title": "blue hat", "price": 9.5}', "-k", 2))
    after = json.loads(ok(embedkit("search", index, "--history", "i001,i002", "--exclude-seen", "-k", 2, "--json")))[0]["neighbours"]
    assert not {"i001", "i002"} & {one["id"] for one in after}

    asked = ("search", index, "--id", "i003", "-k", 4, "--json")
    assert json.loads(ok(embedkit(*asked, "--option", "ef=200")))[0]["neighbours"] == near

    for arguments, message in {
        ("--id", "i0033"): "did you mean",
        ("--id", "i003", "--option", "m=8"): "option 'm' was fixed when the index was built",
        ("--id", "i003", "--option", "ef"): "--option ef: write",
        ("--id", "i003", "--option", "eff=3"): "did you mean 'ef'",
        ("--id", "i003", "-k", "60"): "larger than the rest of the index",
        ("--row", "{"): "is no JSON",
        ("--id", "i003", "--text", "x"): "ask by one of",
        ("--text", "red", "--where", "prize < 3"): "prize",
    }.items():
        answer = embedkit("search", index, *arguments)
        assert answer.code == 2, arguments
        assert message in answer.err
        assert len(answer.err.splitlines()) == 1
