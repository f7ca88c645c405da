"""What every evaluator must do. A plugin's test module subclasses ``EvaluatorConformance``::

class TestMine(EvaluatorConformance):
    def evaluator(self):
        return MyEvaluator(MyConfig(), context=None)

    def evaluate_context(self):
        return EvaluateContext(model=…, store=…, split="test", device=torch.device("cpu"), seed=0, save_table=lambda name, frame: None)
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import replace
from typing import Any

import polars as pl
import torch
from polars.testing import assert_frame_equal

from embedkit.evaluate.base import Estimate, EvaluateContext, Evaluator


class EvaluatorConformance:
    """Inherit, say how the evaluator and what it is given are made, and let pytest run it."""

    @abstractmethod
    def evaluator(self) -> Evaluator:
        """A new evaluator."""

    @abstractmethod
    def evaluate_context(self) -> EvaluateContext:
        """A small problem with an untrained model, not ``quick``."""

    def measured(self, **changes: Any) -> tuple[list[Estimate], dict[str, pl.DataFrame]]:
        """The estimates, and the tables that were saved on the way."""
        tables: dict[str, pl.DataFrame] = {}
        context = replace(self.evaluate_context(), save_table=tables.__setitem__, **changes)
        return self.evaluator().run(context), tables

    def test_it_reports_what_it_declares(self) -> None:
        """``validate.metric`` is checked against the declared names before training starts."""
        evaluator = self.evaluator()
        declared = evaluator.metrics(evaluator.config)
        assert declared
        assert len(set(declared)) == len(declared)
        for quick in (True, False):
            found = {one.metric for one in self.measured(quick=quick)[0] if one.model == "model" and one.slice is None}
            assert set(declared) <= found

    def test_estimates_are_sound(self) -> None:
        """Finite values, something was resampled, and intervals hold their value."""
        for one in self.measured()[0]:
            assert math.isfinite(one.value)
            assert one.n > 0
            assert (one.low is None) == (one.high is None)
            if one.low is not None and one.high is not None:
                assert one.low <= one.value <= one.high

    def test_a_figure_stands_once(self) -> None:
        """No two estimates of one model, slice and metric."""
        found = [(one.model, one.slice, one.metric) for one in self.measured()[0]]
        assert len(set(found)) == len(found)

    def test_quick_is_the_model_alone(self) -> None:
        """As while training: no intervals, slices, baselines or tables, and the same values."""
        quick, tables = self.measured(quick=True)
        assert quick
        assert all(one.model == "model" and one.slice is None and one.low is None for one in quick)
        assert not tables
        whole = {one.metric: one.value for one in self.measured()[0] if one.model == "model" and one.slice is None}
        for one in quick:
            assert math.isclose(one.value, whole[one.metric], rel_tol=1e-9, abs_tol=1e-12)

    def test_equal_seeds_give_equal_figures(self) -> None:
        """Ties and resampling come from the context's seed alone."""
        (first, tables), (second, again) = self.measured(), self.measured()
        assert first == second
        assert tables.keys() == again.keys()
        for name, frame in tables.items():
            assert_frame_equal(frame, again[name])

    def test_the_model_stays_as_it_was(self) -> None:
        """Neither weights, nor gradients, nor the generator that training draws from."""
        context = self.evaluate_context()
        before = {name: value.clone() for name, value in context.model.state_dict().items()}
        state = torch.get_rng_state()
        self.evaluator().run(context)
        assert torch.equal(state, torch.get_rng_state())
        assert all(torch.equal(value, before[name]) for name, value in context.model.state_dict().items())
        assert all(parameter.grad is None for parameter in context.model.parameters())
