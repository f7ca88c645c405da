"""Tables in whole runs: warm starts, loading, and the report."""

from __future__ import annotations

import json

import pytest
import torch

from embedkit.bundle import load_bundle
from embedkit.cli import main
from embedkit.errors import UsageError
from embedkit.tables import table_reports

KINDS = [
    {"kind": "unified", "tables": 2},
    {"kind": "per_field"},
    {"kind": "quotient_remainder"},
    {"kind": "frequency", "head": 12},
]


@pytest.mark.parametrize("options", KINDS, ids=str)
def test_a_warm_start_with_more_values_keeps_every_row(ratings, options):
    """The first step of a further run reads trained values where the bundle has them, whatever the new counts and sizes are."""
    first = load_bundle(ratings.train(rows=48, **options), ratings.host.registry)
    ratings.write(users=90, things=60, seed=1)
    second = load_bundle(ratings.train(rows=48, init_from=first.path, **options), ratings.host.registry)
    before, after = (bundle.model.encoders["unified_embedding"] for bundle in (first, second))
    assert second.codecs["user"].vocabulary.size > first.codecs["user"].vocabulary.size
    for spec in before.context.fields:
        codes = torch.arange(first.codecs[spec.name].vocabulary.size)
        assert torch.equal(after.rows(spec, codes), before.rows(spec, codes))
        assert torch.equal(after._known_rows(spec)[: len(codes)], before._known_rows(spec))


def test_more_rows_are_no_growth(ratings):
    """Values would hash elsewhere: the rows that they trained would be others'."""
    first = ratings.train(rows=48)
    with pytest.raises(UsageError, match=r"init_from .*weight' has shape \[48, 4\] there and \[60, 4\] here"):
        ratings.train(rows=60, init_from=first)


@pytest.mark.parametrize(("optimizer", "state"), [("rowwise_adagrad", 48 * 4), ("adamw", 2 * 48 * 4 * 4)])
def test_the_report_has_bytes_of_tables_and_of_the_optimiser_apart(ratings, optimizer, state):
    bundle = load_bundle(ratings.train(rows=48, table_optimizer=optimizer), ratings.host.registry)
    (found,) = table_reports(bundle, ratings.host.registry)
    assert found.report.bytes == 48 * 4 * 4
    assert found.optimizer == f"training:{optimizer}"
    assert found.optimizer_bytes == state


def test_the_report_of_a_frozen_table_has_no_optimiser(ratings):
    bundle = load_bundle(ratings.train(rows=48), ratings.host.registry)
    path = bundle.path / "run.toml"
    path.write_text(path.read_text().replace("freeze = []", 'freeze = ["encoders.*"]'))
    (found,) = table_reports(bundle, ratings.host.registry)
    assert (found.optimizer, found.optimizer_bytes) == (None, 0)


def test_the_command_prints_it(ratings, capsys):
    folder = ratings.train(rows=20, kind="per_field")
    assert main(["bundle", "tables", str(folder), "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["report"]["kind"] == "per_field"
    assert found["report"]["fields"]["user"]["size"] == 31
    assert main(["bundle", "tables", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert "per_field" in shown
    assert f"{found['report']['fields']['thing']['first']:.4f}" in shown
