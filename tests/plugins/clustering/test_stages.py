"""The stages and samplers in whole runs."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

import embedkit
from embedkit.api import concatenate
from embedkit.data.loader import Loader
from embedkit.host import Host
from embedkit.launch import prepare, trial
from embedkit.training.session import Session

LOSS = {"use": "info_nce", "tower": "row", "views": ["a", "b"]}


def stage(name, **stream):
    return {
        "use": "train",
        "name": name,
        "steps": 6,
        "checkpoint_every": 2,
        "streams": {"main": {"table": "rows", "size": 8} | stream},
        "views": [{"use": "corruption", "of": "main", "makes": ["a", "b"], "share": 0.2}],
        "losses": [LOSS],
        "optimizer": {"use": "adamw", "lr": 0.01},
    }


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 4, 120)
    pl.DataFrame(
        {
            "id": [f"r{n}" for n in range(120)],
            "kind": [f"k{k}" for k in kind],
            "size": kind + 0.1 * rng.normal(size=120),
            "weight": rng.normal(size=120),
            "part": ["v" if n % 10 == 0 else "t" for n in range(120)],
        }
    ).write_parquet(tmp_path / "rows.parquet")
    return tmp_path


def run(*stages):
    split = {"by": "column", "column": "part", "valid": "v"}
    return {
        "format": 1,
        "name": "rows",
        "tables": {"rows": {"uri": "rows.parquet", "key": "id", "split": split}},
        "fields": {
            "kind": {"table": "rows", "type": "category"},
            "size": {"table": "rows", "type": "number"},
            "weight": {"table": "rows", "type": "number"},
        },
        "towers": {"row": ["kind", "size", "weight"]},
        "model": {"dim": 8},
        "stages": list(stages),
        "compute": {"device": "cpu", "threads": 1},
    }


def train(folder, *stages, **options):
    lines = []
    return embedkit.train(run(*stages), folder / "runs", base=folder, log=lines.append, **options), lines


def cluster(name="parts", **options):
    return {"use": "cluster", "name": name, "tower": "row", "k": 4} | options


def test_clusters_are_of_train_rows_and_leave_the_model_alone(folder):
    plain, _ = train(folder, stage("first"))
    result, lines = train(folder, stage("first"), cluster(method="full"))
    frame = pl.read_parquet(result.folder.path / "clusters-parts.parquet")
    rows = pl.read_parquet(folder / "rows.parquet").with_row_index("row").filter(pl.col("part") == "t")
    assert frame["row"].to_list() == rows["row"].to_list()
    assert frame["id"].to_list() == rows["id"].to_list()
    assert frame["cluster"].n_unique() == 4
    assert frame["group"].equals(frame["cluster"], check_names=False)
    assert any(line.startswith("parts: 4 groups of ") for line in lines)
    same = [embedkit.load(one.bundle).encode(rows) for one in (plain, result)]
    assert np.array_equal(*same)
    vectors = same[0] / np.linalg.norm(same[0], axis=1, keepdims=True)
    label = frame["cluster"].to_numpy()
    centres = np.stack([vectors[label == c].mean(0) for c in range(4)])
    near = np.linalg.norm(vectors[:, None] - centres, axis=2).argmin(1)
    assert (near == label).mean() > 0.98


def test_groups_combine_with_those_of_earlier_stages(folder):
    result, _ = train(folder, stage("first"), cluster("one", k=3), stage("second"), cluster("two", k=2, combine=["one"]))
    one, two = (pl.read_parquet(result.folder.path / f"clusters-{name}.parquet") for name in ("one", "two"))
    assert (two["group"] == one["cluster"] * 2 + two["cluster"]).all()


def watched(monkeypatch):
    """The row numbers of every batch that is made from here on."""
    drawn, made = [], Loader._batch

    def batch(self, rows):
        drawn.append(np.asarray(rows))
        return made(self, rows)

    monkeypatch.setattr(Loader, "_batch", batch)
    return drawn


@pytest.mark.parametrize("sampler", ["within_cluster", "no_two_of_a_cluster"])
def test_a_later_stage_draws_by_clusters_and_resumes_exactly(folder, sampler, monkeypatch):
    stages = [stage("first"), cluster(method="full"), stage("second", sampler=sampler, groups={"stage": "parts"}, size=3)]
    drawn = watched(monkeypatch)
    whole, _ = train(folder, *stages)
    label = dict(pl.read_parquet(whole.folder.path / "clusters-parts.parquet").select("row", "group").iter_rows())
    second = [[label[int(row)] for row in rows] for rows in drawn if len(rows) <= 3]
    assert second
    assert all(len(set(groups)) == (1 if sampler == "within_cluster" else len(groups)) for groups in second)
    vectors = embedkit.load(whole.bundle).encode(pl.read_parquet(folder / "rows.parquet"))

    following, calls = Session.next_views, []

    def stop(self):
        calls.append(1)
        if len(calls) == 10:  # in the second stage, two steps behind a checkpoint
            raise KeyboardInterrupt("stopped")
        return following(self)

    monkeypatch.setattr(Session, "next_views", stop)
    with pytest.raises(KeyboardInterrupt):
        train(folder, *stages)
    monkeypatch.setattr(Session, "next_views", following)
    broken = max((folder / "runs").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    resumed = embedkit.train(broken, resume=True)
    assert np.array_equal(embedkit.load(resumed.bundle).encode(pl.read_parquet(folder / "rows.parquet")), vectors)


def test_a_field_can_say_what_the_groups_are(folder, monkeypatch):
    drawn = watched(monkeypatch)
    train(folder, stage("only", sampler="within_cluster", groups={"field": "kind"}))
    kinds = pl.read_parquet(folder / "rows.parquet")["kind"]
    assert len(drawn) >= 6
    assert all(kinds.gather(rows).n_unique() == 1 for rows in drawn)


def test_snapshots_are_bundles_and_new_weights_are_new(folder):
    keep = {"use": "snapshot", "name": "first", "restart": True}
    result, _ = train(folder, stage("one"), keep, stage("two"))
    plain, _ = train(folder, stage("one"))
    rows = pl.read_parquet(folder / "rows.parquet")
    first, last = embedkit.load(result.folder.path / "snapshots" / "first"), embedkit.load(result.bundle)
    assert np.array_equal(first.encode(rows), embedkit.load(plain.bundle).encode(rows))
    assert not np.allclose(first.encode(rows), last.encode(rows))
    both = concatenate([result.folder.path / "snapshots" / "first", result.bundle]).encode(rows)
    assert both.shape == (120, 16)
    assert np.allclose(np.linalg.norm(both, axis=1), 1, atol=1e-5)
    blocks = [vectors.encode(rows) for vectors in (first, last)]
    assert np.allclose(both @ both.T, (blocks[0] @ blocks[0].T + blocks[1] @ blocks[1].T) / 2, atol=1e-5)


def test_a_trial_needs_no_clusters(folder):
    stages = [stage("one"), cluster(), stage("two", sampler="within_cluster", groups={"stage": "parts"})]
    host, lines = Host.load(), []
    trial(prepare(run(*stages), host, base=folder).plan, host, log=lines.append)
    assert "clustering:cluster has a loop of its own and is not tried" in lines


def test_what_cannot_be_grouped_is_refused_before_training(folder):
    for stages, message in {
        (
            ("groups", (("stage", "prats"),)),
        ): r"stages.2.streams.main.groups.stage: there is no earlier stage 'prats'; did you mean 'parts'\?",
        (("groups", (("field", "knid"),)),): r"groups.field: there is no field 'knid'; did you mean 'kind'\?",
        (("groups", (("field", "size"),)),): r"groups.field: field 'size' is of type number; a group is one category a row",
        (("groups", ()),): r"groups: .*name either a 'stage' or a 'field'",
        (): r"the stream does not say what its groups are",
    }.items():
        options = {key: dict(value) for key, value in stages}
        with pytest.raises(embedkit.UsageError, match=message):
            train(folder, stage("one"), cluster(), stage("two", sampler="within_cluster", **options))
    with pytest.raises(embedkit.UsageError, match="stage 'one' left no clusters; earlier stages that did: parts"):
        train(folder, stage("one"), cluster(), stage("two", sampler="within_cluster", groups={"stage": "one"}))
    with pytest.raises(embedkit.UsageError, match=r"k: 500 clusters of 108 train rows of table 'rows': choose fewer"):
        train(folder, cluster(k=500))
    with pytest.raises(embedkit.UsageError, match=r"combine: no earlier stage 'other' made clusters; those that did: none"):
        train(folder, cluster(combine=["other"]))
