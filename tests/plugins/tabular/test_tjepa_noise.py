"""The studies of noise and of bias beside T-JEPA's: small enough to train, and their figures against ones known beforehand."""

from __future__ import annotations

import numpy as np
import pytest

import embedkit
from embedkit.host import Host

pytest.importorskip("sklearn")


@pytest.fixture(scope="module")
def study(study_modules):
    with study_modules("tjepa", "noise", "bias", "seeds", "models", "tables") as found:
        yield found


def test_what_noise_explains_is_its_share_of_the_variance(study):
    draw = np.random.default_rng(0)
    noise, signal = draw.normal(size=(4_000, 2)), draw.normal(size=(4_000, 3))
    vectors = np.hstack([2.0 * np.abs(noise[:, :1]), signal])  # a bent line of one column: a share that no line would see
    share = vectors[:, 0].var() / vectors.var(0).sum()
    assert study.noise.explained(vectors, list(noise.T)) == pytest.approx(share, abs=0.03)
    assert study.noise.explained(signal, list(noise.T)) == pytest.approx(0.0, abs=0.01)


def test_the_planted_columns_are_as_said(study):
    table = study.noise.planted(3)
    values = table.frame.select(table.features).to_numpy()
    tied = np.abs(np.corrcoef(values, rowvar=False) - np.eye(len(table.features)))
    noise = [table.features.index(name) for name in study.noise.NOISES]
    assert tied[noise].max() < 0.08
    assert tied.max(axis=0)[: study.noise.SIGNAL].min() > 0.1, "every other column tells of some column"
    assert values[:, noise].std() > 5 * values[:, : study.noise.SIGNAL].std()
    assert study.noise.planted(3).frame.equals(table.frame)


def test_an_arm_is_measured(study, tmp_path):
    table = study.noise.planted(0, rows=600)
    found = study.noise.measure("t_jepa", 0, tmp_path, Host.load(), table, study.noise.OPTIONS | {"steps": 5})
    assert 0 < found["tokens of noise"] < 1
    assert -1 <= found["tau"] <= 1
    known = {f"{arm}/0": found for arm in study.noise.ARMS}
    page = study.noise.page(known, 1)
    assert "| noise: smaller than with masked_cells | by 30% | by 0% [0%, 0%] | no |" in page
    cut, low, high = study.noise.cut_of(np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0, 6.0]))
    assert (cut, low, high) == pytest.approx((0.5, 0.5, 0.5))
    cut, low, high = study.noise.cut_of(np.array([1.0, 2.0, 3.0, 2.0]), np.array([4.0, 4.0, 3.0, 5.0]))
    assert cut == pytest.approx(0.5)
    assert low < cut < high


def test_both_labels_are_read_off_the_shared_trunk(study, tmp_path):
    path = tmp_path / "bits.parquet"
    study.bias.write(path, 0, rows=800)
    run = study.bias.run_file(path, "hard first", 0, steps=60)
    run["stages"][0]["optimizer"]["lr"] = run["stages"][1]["optimizer"]["lr"] = 0.01
    result = embedkit.train(run, tmp_path / "runs", host=Host.load())
    assert result.metrics["probe:easy"] > 0.95
    assert result.metrics["probe:hard"] > 0.95
    found = {f"{arm}/0": dict(result.metrics) for arm in study.bias.ARMS}
    assert "| hard first narrows it |" in study.bias.page(found, 1)
