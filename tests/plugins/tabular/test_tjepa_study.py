"""The study of T-JEPA on tables: its probe against scikit-learn's, and all of its arms on a table of its own, small and quick."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

import embedkit

pytest.importorskip("sklearn")


@pytest.fixture(scope="module")
def study(study_modules):
    with study_modules("tjepa", "run", "models", "probes", "tables", "tuned") as found:
        yield found


def small(study, regression=False):
    """400 rows; the label tells of both features, and as a class is two times as frequent as the other."""
    draw = np.random.default_rng(0)
    rows = 400
    number, kind = draw.normal(size=rows), draw.integers(0, 3, rows)
    drive = np.where(kind == 0, number, -number)
    frame = pl.DataFrame(
        {
            "number": [float(x) if i % 15 else None for i, x in enumerate(number)],
            "other": draw.normal(size=rows),
            "kind": [f"k{k}" for k in kind],
            "label": drive if regression else [["up", "down"][int(d < 0.5)] for d in drive],
            "part": study.tables.deal(rows, (0.6, 0.2), study.tables.PARTS),
        }
    )
    return study.tables.Table("small", frame, "label", ("number", "other"), ("kind",), regression)


@pytest.fixture
def options(study, monkeypatch, tmp_path):
    small_ones = {"dim": 8, "layers": 1, "heads": 2, "hidden": 8, "predictor_width": 4, "size": 32, "tuned_size": 32}
    monkeypatch.setattr(study.models, "OPTIONS", study.models.OPTIONS | small_ones)
    return SimpleNamespace(seeds=2, datasets=tmp_path, steps=4, epochs=2)


def test_every_arm_is_measured_once_and_found_again(study, options, tmp_path, monkeypatch):
    table, out = small(study), tmp_path / "out"
    arms = ("raw", "t_jepa", "resnet", "t_jepa + resnet")
    page = study.run.accuracy_table(study.run.Study(out, options), table, arms)
    compared = [line.split(" | ")[0] for line in page if " − " in line]
    assert compared == ["| t_jepa − raw", "| t_jepa + resnet − resnet", "| t_jepa + resnet − t_jepa"]
    found = json.loads((out / "results.json").read_text())
    for arm in arms[2:]:
        assert found[f"small/{arm}/0"]["chosen"] in study.tuned.RATES
        rates = [found[f"small/{arm}/lr={rate}/0"]["valid"] for rate in study.tuned.RATES]
        assert found[f"small/{arm}/0"]["valid"] == max(rates)
        assert len([name for name in found if name.startswith(f"small/{arm}/lr=")]) == 1 + len(study.tuned.RATES)
    left = {path.name.rpartition("-s")[0] for path in (out / "runs").iterdir()}
    assert left == {"small-t_jepa"}, "runs of tuned arms are removed"

    def none(*arguments, **more):
        raise AssertionError("all was measured")

    for name in ("pretrain", "tune", "linear"):
        monkeypatch.setattr(study.run, name, none)
    assert study.run.accuracy_table(study.run.Study(out, options), table, arms) == page


def test_a_tuned_arm_says_classes_and_values_as_the_table_does(study, options, tmp_path):
    host = embedkit.host.Host.load()
    for regression in (False, True):
        table = small(study, regression)
        run = study.tuned.tuned_file(table, table.write(tmp_path, labelled=True), {"tuned_epochs": 25}, "mlp", 0.01, 0, None)
        valid, bundle = study.tuned.tune(run, tmp_path / f"runs-{regression}", host)
        told, y = study.tuned.predict(bundle, table, "valid", host), table.part("valid")[1]
        assert study.probes.score(table, told, y).mean() == pytest.approx(valid, rel=1e-4)
        assert valid < 0.5 * y.var() if regression else valid > 0.8


def test_the_encoder_starts_as_untrained_or_as_it_was_learned(study, options, tmp_path):
    table, host = small(study), embedkit.host.Host.load()
    path, labelled = table.write(tmp_path), table.write(tmp_path, labelled=True)

    def state(bundle):
        return {k: v for k, v in embedkit.load(bundle, host=host).bundle.model.state_dict().items() if not k.startswith("heads.")}

    for arm, objective in (("untrained + mlp", "untrained"), ("t_jepa + resnet", "t_jepa")):
        bundle, _ = study.models.pretrain(study.models.run_file(table, path, {"objective": objective, "steps": 3}, 1), tmp_path, host)
        start = None if objective == "untrained" else bundle
        run = study.tuned.tuned_file(table, labelled, {"tuned_epochs": 1}, arm, 1e-12, 1, start)
        tuned = state(study.tuned.tune(run, tmp_path, host)[1])
        known = state(bundle)
        assert tuned.keys() == known.keys()
        for name, weight in known.items():
            np.testing.assert_allclose(tuned[name], weight, atol=1e-8)
