"""What every loss must do. A plugin's test module subclasses ``LossConformance`` and says how the loss is made."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from embedkit.config.model import Schedule
from embedkit.data.batch import Batch
from embedkit.nn.values import Outputs, Tokens
from embedkit.schema import FieldSpec, Schema, Tower
from embedkit.training.loss import CATALOGUE, Loss, LossContext, LossResult, Needs, Step
from embedkit.training.schedule import Clock
from embedkit.views import Mix, Random, View

ROWS = 6
ITEMS = 10
WIDTH = 8
TABLES = ("items", "events")


class LossConformance:
    """Inherit, say how the loss is made, and let pytest run it.

    The context has the towers ``item`` (of table ``items``) and ``user`` (of table ``events``) and the views ``main``, ``a`` and ``b``;
    every view's rows are known in both tables. The catalogue holds all items, whatever the batch. A loss that looks at tokens names the
    ``fields`` of the towers; one that wants something of its augmentation ``dress``es the views. A loss that looks at ``main`` and ``b``
    finds ``main`` to be mixed with ``b``.
    """

    fields: tuple[FieldSpec, ...] = ()
    """Fields of both towers, one token each; none gives one token without a field."""

    def dress(self, view: View) -> View:
        """The view with what the loss's augmentation would add."""
        return view

    @abstractmethod
    def loss(self, context: LossContext) -> Loss:
        """A new loss; its weights come from torch's global seed."""

    def make(self) -> Loss:
        """A loss of the suite's context."""
        torch.manual_seed(0)
        return self.loss(loss_context(self.fields))

    def step(self, loss: Loss, **options: Any) -> PlainStep:
        """A step for a loss; see ``PlainStep``."""
        return PlainStep(loss.needs, fields=self.fields, dress=self.dress, **options)

    def test_is_a_finite_number_with_a_gradient(self) -> None:
        """A float32 scalar; something that it pulled gets a gradient."""
        loss = self.make()
        step = self.step(loss)
        result = loss(step)
        assert result.loss.shape == ()
        assert result.loss.dtype == torch.float32
        assert result.loss.isfinite()
        result.loss.backward()
        grads = [leaf.grad for leaf in step.leaves if leaf.grad is not None]
        assert any(grad.abs().sum() > 0 for grad in grads)
        assert all(grad.isfinite().all() for grad in grads)

    def test_the_generators_decide(self) -> None:
        """The same step gives the same value and gradients, bit for bit."""
        first, second = (self._value() for _ in range(2))
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))

    def test_nothing_selected_is_a_zero(self) -> None:
        """A batch without rows gives zero and zero gradients, never NaN."""
        loss = self.make()
        step = self.step(loss, rows=0)
        result = loss(step)
        result.loss.backward()
        assert float(result.loss.detach()) == 0.0
        for parameter in [*step.leaves, *loss.parameters()]:
            assert parameter.grad is None or not parameter.grad.any()

    def test_bfloat16_outputs_give_a_float32_loss(self) -> None:
        """Under autocast outputs may be bfloat16; the loss computes in float32."""
        loss = self.make()
        result = loss(self.step(loss, dtype=torch.bfloat16))
        assert result.loss.dtype == torch.float32
        assert result.loss.isfinite()

    def test_parts_and_kept_tensors_are_detached(self) -> None:
        """What is logged and kept holds no graph."""
        loss = self.make()
        result: LossResult = loss(self.step(loss))
        for value in result.parts.values():
            assert value.shape == ()
            assert not value.requires_grad
        assert not any(value.requires_grad for value in result.keep.values())

    def test_forward_changes_no_buffer(self) -> None:
        """Queues, centres and prototypes change in ``after_update`` only."""
        loss = self.make()
        before = {name: value.clone() for name, value in loss.state_dict().items()}
        loss(self.step(loss))
        assert all(torch.equal(before[name], value) for name, value in loss.state_dict().items())

    def test_continues_from_its_state(self) -> None:
        """A new loss that loads the state after an update gives the same value."""
        loss, step = self.make(), None
        for seed in range(3):
            step = self.step(loss, seed=seed)
            result = loss(step)
            with torch.no_grad():
                loss.after_update(step, result.keep)
        fresh = self.make()
        fresh.load_state_dict(loss.state_dict())
        ours, theirs = loss(self.step(loss, seed=9)).loss, fresh(self.step(loss, seed=9)).loss
        assert torch.equal(ours, theirs)

    def _value(self) -> list[Tensor]:
        loss = self.make()
        step = self.step(loss)
        result = loss(step)
        result.loss.backward()
        return [result.loss.detach(), *(leaf.grad for leaf in step.leaves if leaf.grad is not None)]


class PlainStep:
    """A step that serves random unit vectors for what ``needs`` names, and refuses anything else."""

    def __init__(
        self,
        needs: Needs,
        *,
        rows: int = ROWS,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
        fields: Sequence[FieldSpec] = (),
        dress: Callable[[View], View] = lambda view: view,
    ) -> None:
        draw = torch.Generator().manual_seed(seed)
        self.random = Random(torch.Generator().manual_seed(seed + 1), torch.Generator().manual_seed(seed + 2))
        self.leaves: list[Tensor] = []
        self._outputs: dict[tuple[str, str, str], Outputs] = {}
        views = {need.view: None for need in needs.forwards if need.view != CATALOGUE}
        number = torch.randint(0, ITEMS, (rows,), generator=draw)
        labels = {label: torch.randint(0, 2, (rows,), generator=draw) for label in needs.labels}
        self._views = {name: dress(View(Batch({}, dict.fromkeys(TABLES, number), labels))) for name in views}
        spans = {spec.name: slice(i, i + 1) for i, spec in enumerate(fields)}
        length = max(1, len(fields))
        if {"main", "b"} <= self._views.keys():
            order = torch.randperm(rows, generator=draw)
            self._views["main"] = replace(self._views["main"], mix=Mix(self._views["b"], order, 0.3))
        for need in needs.forwards:
            count = ITEMS if need.view == CATALOGUE else rows
            leaf = torch.randn(count, length, WIDTH, generator=draw).to(dtype).requires_grad_(need.network == "student")
            self.leaves.append(leaf)
            pooled = leaf.mean(1)
            unit = F.normalize(pooled, dim=1)
            empty = torch.zeros(count, length, dtype=torch.bool)
            tokens = Tokens(leaf, empty, empty, spans)
            layers = dict.fromkeys(need.layers, leaf)
            self._outputs[need.network, need.tower, need.view] = Outputs(tokens, pooled, unit, pooled, (WIDTH // 2, WIDTH), True, layers)

    @property
    def views(self) -> Mapping[str, View]:
        """The views that the needs name."""
        return self._views

    @property
    def progress(self) -> float:
        """Half of the stage."""
        return 0.5

    def value(self, number: float | Schedule) -> float:
        """What a scheduled option is half-way."""
        return Clock(50, 100).value(number)

    def run(self, view: str, tower: str, network: str = "student", layers: tuple[int, ...] = ()) -> Outputs:
        """The vectors of a forward that the needs name."""
        key = (network, tower, view)
        assert key in self._outputs, f"the loss pulls {key}, which its needs do not name"
        assert set(layers) <= set(self._outputs[key].layers), f"the loss pulls layers {layers} of {key}, which its needs do not name"
        return self._outputs[key]

    def rows(self, tower: str, rows: Tensor) -> Outputs:
        """Random unit vectors for rows of a tower's table."""
        vectors = self.snapshot(tower).index_select(0, rows)
        empty = torch.zeros(len(rows), 1, dtype=torch.bool)
        return Outputs(Tokens(vectors.unsqueeze(1), empty, empty, {}), vectors, vectors, vectors, (WIDTH // 2, WIDTH))

    def snapshot(self, tower: str) -> Tensor:
        """The same unit vectors for all rows."""
        return F.normalize(torch.randn(ITEMS, WIDTH, generator=torch.Generator().manual_seed(len(tower))), dim=1)

    def narrow(self, dim: int) -> Step:
        """Losses do not narrow a step themselves."""
        raise AssertionError("a loss sets per_prefix instead of narrowing its step")


def loss_context(fields: Sequence[FieldSpec] = ()) -> LossContext:
    """Two towers of one width over a table of items and one of events, with these fields."""
    names = tuple(spec.name for spec in fields)
    towers = {"item": Tower("item", names, "items"), "user": Tower("user", names, "events")}
    counts = torch.arange(ITEMS) % 4
    return LossContext(
        schema=Schema({spec.name: spec for spec in fields}, towers, {}),
        tower_dims=dict.fromkeys(towers, WIDTH),
        token_dim=WIDTH,
        views=("main", "a", "b"),
        frequencies=lambda table: counts,
        rows=dict.fromkeys(TABLES, ITEMS),
    )
