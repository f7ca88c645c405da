from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from embedkit.errors import BundleError, UsageError
from embedkit.evaluate.base import Estimate
from embedkit.evaluate.compare import compare
from embedkit.evaluate.metrics import MISS, Ranks, measure
from embedkit.evaluate.run import evaluate_run, means, names, read_evaluation, table_rows, write_evaluation
from embedkit.evaluate.table import query_table
from embedkit.runs import RunFolder


class FakeEvaluator:
    """Reports one figure, and says how it was asked."""

    def __init__(self, value: float) -> None:
        self.value = value

    def run(self, context):
        assert not context.model.training
        if not context.quick:
            ranks = Ranks(np.array([1, MISS]), np.array([0, 1, 2]))
            targets = (np.array([4, -1]), np.array([0, 1, 2]))
            context.save_table("queries-test", query_table("model", ["a", "b"], np.arange(2), targets, ranks, measure(ranks, ["mrr@5"])))
        return [Estimate("mrr@5", self.value, None, None, 2), Estimate("mrr@5", 0.1, None, None, 2, "popularity")]


def part(value: float, exclude_seen: bool = True):
    return SimpleNamespace(
        entry=SimpleNamespace(name="retrieval"),
        create=lambda context: FakeEvaluator(value),
        to_json=lambda: {"use": "itemrec:retrieval", "options": {"exclude_seen": exclude_seen}},
    )


def plan(*parts):
    return SimpleNamespace(evaluators=parts, config=SimpleNamespace(seed=5))


def test_evaluators_run_in_eval_mode_and_are_told_apart(tmp_path):
    model = torch.nn.Dropout().train()
    folder = RunFolder.create(tmp_path, "shop", 5)
    two = plan(part(0.5), part(0.7))
    found = evaluate_run(two, model, None, split="test", folder=folder)
    assert model.training
    assert [e.evaluator for e in found] == ["retrieval", "retrieval", "retrieval-2", "retrieval-2"]
    assert names(two) == ["retrieval", "retrieval-2"]
    assert means(found) == {"mrr@5": 0.5, "retrieval-2/mrr@5": 0.7}
    assert sorted(p.name for p in folder.path.glob("*.parquet")) == ["queries-test-2.parquet", "queries-test.parquet"]
    evaluate_run(plan(part(0.5)), model.eval(), None, split="test", quick=True)
    assert not model.training


def test_the_file_keeps_both_splits_and_the_options(tmp_path):
    folder = RunFolder.create(tmp_path, "shop", 5)
    one = plan(part(0.5))
    write_evaluation(folder, [Estimate("mrr@5", 0.5, 0.4, 0.6, 2)], plan=one, split="test")
    write_evaluation(folder, [Estimate("mrr@5", float("nan"), None, None, 2)], plan=one, split="valid", seed=9)
    write_evaluation(folder, [Estimate("mrr@5", 0.55, 0.4, 0.6, 2)], plan=one, split="test")
    found = read_evaluation(folder)
    assert [(e["split"], e["value"]) for e in found["estimates"]] == [("test", 0.55), ("valid", None)]
    assert found["splits"]["test"]["seed"] == 5
    assert found["splits"]["valid"]["seed"] == 9
    assert found["splits"]["test"]["evaluators"]["retrieval"]["options"]["exclude_seen"] is True
    folder.evaluation.write_text("{")
    with pytest.raises(BundleError, match="is no JSON; evaluate the run again"):
        read_evaluation(folder)


def test_tables_put_baselines_beside_the_model():
    rows = table_rows([
        Estimate("ndcg@10", 0.25, 0.2, 0.3, 7), Estimate("coverage@10", 0.5, None, None, 7),
        Estimate("ndcg@10", 0.125, 0.1, 0.15, 7, "popularity"), Estimate("ndcg@10", 0.1, None, None, 3, slice="cold:yes"),
    ])  # fmt: skip
    assert rows == [
        {"metric": "ndcg@10", "slice": "all", "n": "7", "model": "0.2500 [0.2000, 0.3000]", "popularity": "0.1250 [0.1000, 0.1500]"},
        {"metric": "coverage@10", "slice": "all", "n": "7", "model": "0.5000"},
        {"metric": "ndcg@10", "slice": "cold:yes", "n": "3", "model": "0.1000"},
    ]


def test_prefixes_have_rows_of_their_own_and_are_no_figure_to_stop_at():
    found = [Estimate("ndcg@10", 0.25, None, None, 7), Estimate("ndcg@10", 0.2, None, None, 7, prefix=16)]
    assert table_rows(found) == [
        {"metric": "ndcg@10", "slice": "all", "prefix": "", "n": "7", "model": "0.2500"},
        {"metric": "ndcg@10", "slice": "all", "prefix": "16", "n": "7", "model": "0.2000"},
    ]
    assert means(reversed(found)) == {"ndcg@10": 0.25}


@pytest.fixture
def make_run(tmp_path):
    """Write a run folder as training and evaluation leave it."""

    def make(name, seed, ranks, *, exclude_seen=True, queries=None, lr=0.1, evaluate_on="test"):
        folder = RunFolder.create(tmp_path, name, seed)
        folder.set_status("finished")
        folder.resolved.write_text(f'format = 1\nname = "{name}"\nseed = {seed}\nevaluate_on = "{evaluate_on}"\n[optimizer]\nlr = {lr}\n')
        count = len(ranks)
        found = Ranks(np.asarray(ranks), np.arange(count + 1))
        targets = (np.arange(count), np.arange(count + 1))
        ids = queries or [f"user{i}" for i in range(count)]
        frame = query_table("model", ids, np.arange(count), targets, found, measure(found, ["mrr@10", "recall@10"]))
        frame.write_parquet(folder.queries("test"))
        write_evaluation(folder, [], plan=plan(part(0.5, exclude_seen)), split="test")
        return folder.path

    return make


def draw(better: float, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.where(rng.random(400) < better, 3, 30)


def test_seeds_of_one_run_file_are_one_arm(make_run):
    first = [make_run("plain", seed, draw(0.3, seed)) for seed in (0, 1, 2)]
    second = [make_run("better", seed, draw(0.5, 10 + seed), evaluate_on=split) for seed, split in enumerate(("test", "none"))]
    found = {c.metric: c for c in compare([*first, *second])}
    assert set(found) == {"mrr@10", "recall@10"}
    recall = found["recall@10"]
    assert recall.seeds == (3, 2)
    assert recall.queries == 400
    assert recall.first == first[0].name
    assert recall.first_value == pytest.approx(np.mean([(draw(0.3, s) <= 10).mean() for s in range(3)]))
    assert recall.difference == pytest.approx(recall.second_value - recall.first_value)
    assert recall.low < recall.difference < recall.high
    assert recall.low > 0.1
    assert recall.p < 0.01


def test_every_further_arm_is_compared_with_the_first(make_run):
    runs = [make_run(name, 0, draw(0.3, i)) for i, name in enumerate("abc")]
    assert [(c.first, c.second) for c in compare(runs)][::2] == [("a-s0-001", "b-s0-001"), ("a-s0-001", "c-s0-001")]


def test_runs_that_were_asked_different_things_are_refused(make_run):
    first = make_run("a", 0, draw(0.3, 0))
    with pytest.raises(UsageError, match="exclude_seen = True, .* with False: their figures cannot be compared"):
        compare([first, make_run("b", 0, draw(0.3, 0), exclude_seen=False)])
    with pytest.raises(UsageError, match="different queries or targets"):
        compare([first, make_run("c", 0, draw(0.3, 0)[:100])])
    with pytest.raises(UsageError, match="different queries or targets"):
        compare([first, make_run("d", 0, draw(0.3, 0), queries=[f"other{i}" for i in range(400)])])


def test_one_arm_is_not_enough(make_run):
    runs = [make_run("a", seed, draw(0.3, seed)) for seed in (0, 1)]
    with pytest.raises(UsageError, match="at least two run files"):
        compare(runs)


def test_an_unevaluated_run_is_refused(make_run, tmp_path):
    run = make_run("a", 0, draw(0.3, 0))
    (run / "queries-test.parquet").unlink()
    with pytest.raises(UsageError, match=r"queries-test.parquet: there is no such file; evaluate the run on its test split first"):
        compare([run, run])
    with pytest.raises(UsageError, match="no such run folder"):
        compare([tmp_path / "nothing", run])


def test_evaluation_json_has_no_nan(make_run):
    run = make_run("a", 0, draw(0.3, 0))
    json.loads((run / "evaluation.json").read_text(), parse_constant=lambda word: pytest.fail(word))
