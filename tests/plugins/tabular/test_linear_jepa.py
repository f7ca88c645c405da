"""The order study of Littwin et al. 2024: what joint embedding learns first, against closed forms and figures known beforehand."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

STUDY = Path(__file__).resolve().parents[3] / "docs" / "studies" / "tjepa" / "linear_jepa.py"
DURATION = {"reconstruction": 25.0, "joint": 50.0}


@pytest.fixture(scope="module")
def study():
    spec = importlib.util.spec_from_file_location("linear_jepa", STUDY)
    module = importlib.util.module_from_spec(spec)
    sys.modules["linear_jepa"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["linear_jepa"]


@pytest.fixture(scope="module")
def paths(study):
    """A can be predicted better, B has more covariance: (objective, depth) → path."""
    return {
        (objective, layers): study.learn(objective, layers, study.COVARIANCE, study.REGRESSION, duration=DURATION[objective])
        for objective in DURATION
        for layers in (1, 3)
    }


def test_the_order_flips_at_depth_three(paths):
    reconstruction, joint = (paths[objective, 3].half_times() for objective in DURATION)
    assert reconstruction[1] < reconstruction[0]
    assert joint[0] < joint[1]
    np.testing.assert_allclose(reconstruction, [1.90, 1.40], rtol=0.02)
    np.testing.assert_allclose(joint, [15.2, 18.0], rtol=0.02)


def test_it_does_not_flip_at_depth_one(paths):
    for objective in DURATION:
        half = paths[objective, 1].half_times()
        assert half[1] < half[0]


@pytest.mark.parametrize("layers", [1, 3])
def test_both_end_at_their_fixed_points(paths, layers):
    """And so the ratio of two features is a power of that of their regression coefficients: 2 to the L, or to L / (L + 1)."""
    for objective, power in (("reconstruction", layers / (layers + 1)), ("joint", layers)):
        end = paths[objective, layers].weights[-1]
        np.testing.assert_allclose(end, np.array([1.5, 0.75]) ** power, rtol=0.01)
        assert end[0] / end[1] == pytest.approx(2.0**power, rel=0.01)


def test_depth_strengthens_the_preference(study):
    """Equal covariance, r = 1 and 2: slow over fast half-time."""
    ratios = {}
    for objective in DURATION:
        for layers in (1, 2, 3):
            half = study.learn(objective, layers, np.ones(2), np.array([1.0, 2.0]), duration=DURATION[objective]).half_times()
            ratios[objective, layers] = half[0] / half[1]
    np.testing.assert_allclose([ratios["reconstruction", n] for n in (1, 2, 3)], [0.83, 0.89, 0.91], atol=0.02)
    np.testing.assert_allclose([ratios["joint", n] for n in (1, 2, 3)], [0.97, 1.24, 1.52], atol=0.03)
