"""``embedkit report`` on a trained shop: one page, nothing fetched, and what is missing is said."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest

import embedkit
from embedkit.errors import UsageError
from embedkit.runs import RunFolder
from embedkit.testing.command import call
from embedkit.testing.shop import run_config, write_tables

STAGE = {
    "use": "train",
    "steps": 6,
    "log_every": 2,
    "streams": {"main": {"table": "events", "rows": "events", "size": 32}},
    "losses": [{"use": "sampled_softmax", "query": "user", "target": "item"}],
}
ASKED = {
    "use": "retrieval", "query": "user", "target": "item", "exclude_seen": True, "slices": ["tail", "short"], "prefixes": True,
    "baselines": ["popularity"], "k": [5],
}  # fmt: skip


class Outline(HTMLParser):
    """Section → its text; and every address that the page would fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.sections: dict[str, str] = {}
        self.addresses: list[str] = []
        self.open: list[str] = []
        self._at = "head"
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.addresses += [v for k, v in attrs if k in ("src", "href", "xlink:href", "data") and v and not v.startswith("#")]
        if tag == "h2":
            self._at = found["id"]
        if tag not in ("meta", "link", "br", "img", "line", "circle", "polyline"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag in ("line", "circle", "polyline"):
            if tag == "circle" and self.open[-1:] == ["circle"]:
                self.open.pop()
            return
        assert self.open.pop() == tag, tag

    def handle_data(self, data):
        self.sections[self._at] = self.sections.get(self._at, "") + data


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, list[Path]]:
    folder = tmp_path_factory.mktemp("page")
    write_tables(folder, items=80, users=24)
    events = {"uri": "events.parquet", "join": {"item_id": "items"}, "user": "customer", "position": "day"}
    events["split"] = {"by": "position", "valid": 1, "test": 1}
    tables = {"items": {"uri": "items-*.parquet", "key": "item_id"}, "events": events}
    runs = []
    for name, asked, dim in (("shop", [ASKED], 16), ("plain", [], 16), ("wide", [ASKED], 32)):
        model = {"dim": dim, "head": {"use": "matryoshka", "dims": [4, dim]}}
        compute = {"threads": 1, "device": "cpu"}
        config = run_config(name=name, tables=tables, stages=[STAGE], evaluate=asked, model=model, compute=compute)
        runs.append(embedkit.train(config, folder / "runs", base=folder).folder.path)
    return folder, runs


def test_a_page_has_every_section_and_fetches_nothing(trained):
    run = trained[1][0]
    page = embedkit.report(run)
    assert page == RunFolder.open(run).report
    text = page.read_text(encoding="utf-8")
    found = Outline(text)
    assert found.addresses == []
    assert not re.search(r"url\(|@import|fetch\(|https?://", text)
    assert not found.open
    assert list(found.sections)[1:] == ["curves", "metrics", "prefixes", "bytes", "slices", "items", "users"]
    assert "24 queries of the test split" in found.sections["metrics"]
    assert "exclude_seen = true" in found.sections["metrics"]
    for name in ("recall@5", "novelty@5", "popularity_bias@5", "popularity"):
        assert name in found.sections["metrics"]
    assert "numbers kept" in found.sections["prefixes"]
    assert "1-5" in found.sections["slices"]
    assert "all 80 items" in found.sections["items"]
    assert "The ten least confident" in found.sections["users"]
    assert "A single point says little" in found.sections["bytes"]


def test_several_runs_are_points_of_quality_against_bytes(trained, tmp_path):
    _, (shop, plain, wide) = trained
    page = tmp_path / "three.html"
    answer = call("report", shop, plain, wide, "--out", page, "--items", 20, "--json")
    assert answer.json == {"page": str(page)}
    found = Outline(page.read_text(encoding="utf-8")).sections
    assert "shop-s3-001" in found["bytes"]
    assert "wide-s3-001" in found["bytes"]
    assert "Without embedding tables, a bundle or recall@5: plain-s3-001." in found["bytes"]
    assert "20 of 80 items" in found["items"]


def test_what_is_missing_is_said_in_its_place(trained, tmp_path):
    plain = trained[1][1]
    found = Outline(embedkit.report(plain, tmp_path / "plain.html").read_text(encoding="utf-8")).sections
    assert "There are no figures of the test split" in found["metrics"]
    assert "No prefixes were measured" in found["prefixes"]
    assert "No slices were measured" in found["slices"]
    assert "no validate entry" in found["curves"]
    assert "all 80 items" in found["items"]  # the tower over the table with a key
    assert "No evaluator of this run ranks" in found["users"]


def test_a_run_without_a_bundle_shows_what_it_wrote(trained, tmp_path):
    folder = RunFolder.create(tmp_path, "broken", 0)
    folder.set_status("failed", error="no <disk> left")
    found = Outline(embedkit.report(folder.path).read_text(encoding="utf-8")).sections
    assert "wrote no metrics.jsonl" in found["curves"]
    assert "bundle" in found["items"]
    assert "failed" in found["head"]


def test_a_diverged_run_has_a_curve(tmp_path):
    folder = RunFolder.create(tmp_path, "diverged", 0)
    folder.set_status("failed")
    valid = {"kind": "valid", "stage": "0", "metric": "ndcg@10", "metrics": {}, "best": False}
    train = {"kind": "train", "stage": "0", "losses": {"loss": 3.5}}
    lines = [train | {"step": 1}, valid | {"step": 1, "value": 0.25}, train | {"step": 2}, valid | {"step": 2, "value": None}]
    folder.metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
    text = embedkit.report(folder.path).read_text(encoding="utf-8")
    assert "ndcg@10, step 1: 0.2500" in text
    assert "ndcg@10, step 2" not in text


def test_tables_that_are_gone_leave_the_figures(trained, tmp_path):
    folder, (run, *_) = trained
    items = [p.rename(p.with_suffix(".away")) for p in folder.glob("items-*.parquet")]
    try:
        found = Outline(embedkit.report(run, tmp_path / "gone.html").read_text(encoding="utf-8")).sections
    finally:
        for path in items:
            path.rename(path.with_suffix(".parquet"))
    assert "items-*.parquet" in found["items"]
    assert "recall@5" in found["metrics"]


def test_names_are_escaped(trained, tmp_path):
    folder, (run, *_) = trained
    path = folder / "items-0.parquet"
    before = path.read_bytes()
    nasty = "</script><script>alert(1)</script>"
    pl.read_parquet(path).with_columns(title=pl.lit(nasty)).write_parquet(path)
    try:
        text = embedkit.report(run, tmp_path / "nasty.html").read_text(encoding="utf-8")
    finally:
        path.write_bytes(before)
    assert nasty not in text
    assert text.count("<script>") == 1
    assert "&lt;/script&gt;" in text


def test_bad_calls_are_refused_in_one_sentence(trained, tmp_path):
    run = trained[1][0]
    with pytest.raises(UsageError, match="the same run folder twice"):
        embedkit.report([run, run])
    answer = call("report", tmp_path)
    assert answer.code == 2
    assert "is no run folder" in answer.err
