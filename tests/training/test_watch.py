from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from embedkit.testing.conformance.loss import loss_context
from embedkit.training.curve import draw_curve
from embedkit.training.loss import Forward, Loss, Needs
from embedkit.training.report import MetricsFile
from embedkit.training.step import WeightedLoss
from embedkit.training.watch import Spread, Watch


class Asks(Loss):
    """Needs what it is told to."""

    def __init__(self, *forwards):
        super().__init__(None, context=loss_context())
        self._needs = Needs(forwards)

    @property
    def needs(self):
        return self._needs

    def forward(self, step):
        raise NotImplementedError


class Step:
    """Gives one embedding, whatever is asked."""

    def __init__(self, x):
        self.x = x

    def run(self, view, tower, network="student", layers=()):
        return SimpleNamespace(embedding=self.x)


def watch(*forwards):
    return Watch([WeightedLoss("ssl", Asks(*(forwards or (Forward("a", "item"), Forward("b", "item")))), 1.0)])


def test_directions_that_are_filled_evenly_count():
    x = torch.eye(6).repeat(4, 1)
    spread = Spread.of(x)
    assert spread.effective_rank == pytest.approx(6.0)
    assert spread.cosine == pytest.approx(3 / 23)  # of 23 other rows 3 are equal
    assert spread.std == pytest.approx(math.sqrt(1 / 6 - 1 / 36))


def test_rows_that_are_alike_have_rank_one():
    spread = Spread.of(torch.ones(8, 3) * torch.tensor([1.0, 2.0, 3.0]))
    assert spread.effective_rank == pytest.approx(1.0, abs=1e-5)
    assert spread.cosine == pytest.approx(1.0)
    assert spread.std == 0.0
    assert Spread.of(torch.zeros(4, 3)) == Spread(1.0, pytest.approx(0.0), 0.0)


def test_the_rank_is_that_of_the_singular_values():
    """Wide and tall, against an SVD."""
    for shape in ((50, 7), (7, 50)):
        x = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * torch.logspace(0, -3, shape[1])
        share = torch.linalg.svdvals(x.double())
        share = share / share.sum()
        assert Spread.of(x).effective_rank == pytest.approx(math.exp(-float((share * share.log()).sum())), rel=1e-6)


def test_nothing_is_said_of_too_little():
    assert Spread.of(torch.ones(1, 3)) is None
    assert Spread.of(torch.tensor([[1.0, float("nan")], [1.0, 2.0]])) is None


def test_losses_of_one_tower_in_two_ways_are_watched():
    assert Asks(Forward("a", "item"), Forward("b", "item")).watch == (Forward("a", "item"),)
    assert Asks(Forward("a", "item"), Forward("a", "item", "teacher")).watch == (Forward("a", "item"),)
    assert Asks(Forward("a", "user"), Forward("a", "item")).watch == ()
    assert Asks(Forward("a", "item")).watch == ()


def test_a_collapse_is_told_once():
    seen, x = watch(), torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    seen.begin(Step(x))
    figures, warnings = seen.see(Step(x))
    assert list(figures) == ["item@a"]
    assert set(figures["item@a"]) == {"effective_rank", "cosine", "std"}
    assert warnings == []
    gone = Step(1.0 + 0.01 * x)
    (line,) = seen.see(gone)[1]
    assert line.startswith("warning: item@a: the effective rank fell to 1.2 from 7.")
    assert "the mean cosine rose to 1.000 from" in line
    assert "the standard deviation fell to" in line
    assert seen.see(gone)[1] == []
    again = watch()
    again.load_state_dict(seen.state_dict())
    again.begin(gone)
    assert again.see(gone)[1] == []


def test_a_step_that_scales_everything_is_no_collapse_of_directions():
    seen, x = watch(), torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    seen.begin(Step(x))
    assert seen.see(Step(0.5 * x))[1] == []
    (line,) = seen.see(Step(0.01 * x))[1]
    assert "standard deviation" in line
    assert "rank" not in line


def test_a_run_logs_and_draws_what_it_watches(shop, tmp_path):
    result = shop.train()
    records = [r for r in MetricsFile(result.folder.metrics).records() if r["kind"] == "train"]
    assert len(records) == 4
    for record in records:  # the two views of items; users and items are two towers
        assert list(record["watch"]) == ["item@a"]
        figures = record["watch"]["item@a"]
        assert 1.0 < figures["effective_rank"] <= 16.0
        assert -1.0 < figures["cosine"] < 1.0
    draw_curve(records, tmp_path / "with.png", title="shop")
    plain = [{key: value for key, value in record.items() if key != "watch"} for record in records]
    draw_curve(plain, tmp_path / "without.png", title="shop")
    heights = [int.from_bytes((tmp_path / name).read_bytes()[20:24], "big") for name in ("with.png", "without.png")]
    assert heights[0] > 2 * heights[1]
