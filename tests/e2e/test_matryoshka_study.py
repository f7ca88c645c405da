"""The study of nested widths, on the shop: what it measures agrees with the evaluator and with linear algebra, and it goes on."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import tomli_w
import torch

from embedkit.testing.shop import run_config, write_tables

WIDTHS = (32, 16, 8, 4, 2)


@pytest.fixture(scope="module")
def modules(study_modules):
    """``run`` and ``measure`` of the study."""
    with study_modules("matryoshka_items", "measure", "run") as found:
        yield found.run, found.measure


@pytest.fixture(scope="module")
def run_file(tmp_path_factory):
    """The shop with a run file of two epochs."""
    loss = {"use": "sampled_softmax", "query": "user", "target": "item"}
    stage = {"use": "train", "epochs": 2, "streams": {"main": {"table": "events", "rows": "events", "size": 64}}, "losses": [loss]}
    found = run_config(
        model={"dim": 32},
        stages=[stage],
        evaluate=[{"use": "retrieval", "query": "user", "target": "item", "k": [20], "exclude_seen": False}],
    ).model_dump(mode="json", by_alias=True, exclude_defaults=True)
    found["tables"]["events"]["split"] = {"by": "position", "valid": 1, "test": 1}
    path = tmp_path_factory.mktemp("study") / "run.toml"
    write_tables(path.parent)
    path.write_text(tomli_w.dumps({"format": 1, **found}))
    return path


@pytest.fixture(scope="module")
def studied(modules, run_file):
    """The study's folder after a first call, and what it said."""
    out = run_file.parent / "out"
    return out, _call(modules, run_file, out)


def _call(modules, run_file, out, *more):
    words = [str(run_file), "--out", str(out), "--seeds", "1", *more]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["run.py", *words])
        modules[0].main()
    return (out / "results.md").read_text()


def _run(out, name):
    return json.loads((out / "results.json").read_text())["runs"][name]


def test_widths_are_measured_as_the_evaluator_does(studied):
    out, _ = studied
    run = _run(out, "matryoshka-0")
    told = json.loads((out / run["folder"] / "evaluation.json").read_text())["estimates"]
    recall = {one["prefix"] or 32: one["value"] for one in told if one["metric"] == "recall@20" and one["model"] == "model"}
    assert {f"cut {width}": pytest.approx(value) for width, value in recall.items()} == run["recall@20"]
    assert sorted(recall, reverse=True) == list(WIDTHS)


def test_the_report_has_every_width_and_both_tables(studied):
    _, text = studied
    lines = text.splitlines()
    assert [line.split()[1] for line in lines if line.startswith("| ") and ", paired |" in line] == [str(width) for width in WIDTHS]
    whole = next(line for line in lines if line.startswith("| 32 (whole) |"))
    assert whole.count("[") == 2
    assert all(next(line for line in lines if line.startswith(f"| {w} (1/{32 // w}) |")).count("[") == 4 for w in WIDTHS[1:])


def test_pca_is_chosen_by_validation(studied):
    out, _ = studied
    for width, found in _run(out, "full-0")["pca"].items():
        assert found["valid"][found["chosen"]] == max(found["valid"].values()), width


def test_what_is_there_is_not_trained_again_and_a_lost_measurement_is_made_again(modules, run_file, studied):
    out, text = studied
    before = {path: path.stat().st_mtime_ns for path in out.glob("runs/*/*/bundle/model.safetensors")}
    results = json.loads((out / "results.json").read_text())
    del results["runs"]["full-0"]  # as if stopped between training and measuring
    (out / "results.json").write_text(json.dumps(results))
    again = _call(modules, run_file, out)
    assert {path: path.stat().st_mtime_ns for path in out.glob("runs/*/*/bundle/model.safetensors")} == before
    assert again.split("| model |")[0] == text.split("| model |")[0]


def test_other_options_want_another_folder(modules, run_file, studied, capsys):
    with pytest.raises(SystemExit) as exit:
        _call(modules, run_file, studied[0], "--set", "stages.0.epochs=1")
    assert exit.value.code == 2
    assert "other options; give another --out" in capsys.readouterr().err


def test_small_models_are_narrow_where_it_says_so(modules, run_file, tmp_path):
    run, _ = modules
    found = {arm.name: arm for arm in run.arms(run.Study(run_file, tmp_path, [], 1).spec(), narrow=True)}
    assert [name for name in found if name.startswith("small")] == ["small-16", "small-8", "small-4", "small-2"]
    assert not any(change.startswith("model.dim") for change in found["small-8"].changes)
    assert "model.dim=8" in found["narrow-8"].changes
    assert [change.split("=")[0] for change in found["full"].changes] == ["model.heads.item", "model.heads.user"]


def test_a_width_that_cannot_be_cut_is_refused(modules, run_file, tmp_path, capsys):
    with pytest.raises(SystemExit):
        _call(modules, run_file, tmp_path, "--set", "model.dim=24")
    assert "model.dim is 24" in capsys.readouterr().err


def test_rotations(modules):
    _, measure = modules
    draw = torch.Generator().manual_seed(0)
    plane = torch.randn(2, 8, generator=draw)
    items, queries = (torch.randn(rows, 2, generator=draw) @ plane for rows in (50, 20))
    flat = measure.Rotation.of(items, centred=False)
    cut = flat.cut(queries, 2, normalized=False) @ flat.cut(items, 2, normalized=False).T
    torch.testing.assert_close(cut, queries @ items.T, rtol=1e-4, atol=1e-4)
    shifted = measure.Rotation.of(items + 3.0, centred=True)
    torch.testing.assert_close(shifted.cut(items + 3.0, 8, normalized=False).mean(0), torch.zeros(8), rtol=0, atol=1e-5)
    torch.testing.assert_close(shifted.cut(items, 2, normalized=True).norm(dim=1), torch.ones(50))


@pytest.mark.parametrize(
    ("low", "high", "verdict"), [(-0.004, 0.01, "holds"), (-0.006, 0.01, "undecided"), (-0.02, -0.006, "fails"), (-0.02, 0.01, "undecided")]
)
def test_verdicts(modules, low, high, verdict):
    run, _ = modules
    found = run.Difference(*(np.array([value]) for value in ((low + high) / 2, low, high, 1.0)))
    assert run.Claim("", "full", (1,), -0.005).verdict({1: found}) == verdict
