"""What every optimiser must do. A plugin's test module subclasses ``OptimizerConformance`` and says how the optimiser is made."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from embedkit.training.checkpoint import pack, unpack


class OptimizerConformance:
    """Inherit, say how the optimiser is made, and let pytest run it."""

    @abstractmethod
    def optimizer(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """A new optimiser of these parameter groups (``params`` and ``kind``), with a learning rate that learns."""

    def test_learns(self) -> None:
        """The loss of a small regression falls to less than half."""
        weights, optimizer = self.make()
        losses = [float(step(weights, optimizer, i % 4)) for i in range(200)]
        assert sum(losses[-4:]) < 0.5 * sum(losses[:4])
        assert all(w.isfinite().all() for w in weights.values())

    def test_is_the_same_every_time(self) -> None:
        """Two runs give equal weights, bit for bit."""
        first, second = self.run(12), self.run(12)
        assert all(torch.equal(first[name], second[name]) for name in first)

    def test_continues_from_its_state(self) -> None:
        """A new optimiser that loads a state, as a checkpoint keeps it, goes on bit for bit."""
        weights, optimizer = self.make()
        for i in range(5):
            step(weights, optimizer, i)
        skeleton, tensors = pack({"weights": {n: w.detach() for n, w in weights.items()}, "optimizer": optimizer.state_dict()})
        state = unpack(skeleton, tensors)
        fresh, other = self.make()
        with torch.no_grad():
            for name, weight in fresh.items():
                weight.copy_(state["weights"][name])
        other.load_state_dict(state["optimizer"])
        for i in range(5, 12):
            step(fresh, other, i)
        whole = self.run(12)
        assert all(torch.equal(fresh[name], whole[name]) for name in whole)

    def test_follows_its_learning_rate(self) -> None:
        """The loop sets ``lr`` in the groups; zero changes nothing."""
        weights, optimizer = self.make()
        for group in optimizer.param_groups:
            group["lr"] = 0.0
        before = {name: w.detach().clone() for name, w in weights.items()}
        step(weights, optimizer, 0)
        assert all(torch.equal(before[name], w) for name, w in weights.items())

    def test_leaves_parameters_without_gradient(self) -> None:
        """A parameter that took no part in the loss stays as it is."""
        weights, optimizer = self.make()
        idle = nn.Parameter(torch.ones(3, 2))
        optimizer.add_param_group({"params": [idle], "kind": "matrix"})
        step(weights, optimizer, 0)
        assert torch.equal(idle, torch.ones(3, 2))

    def test_takes_sparse_gradients_if_it_says_so(self) -> None:
        """An optimiser whose class says ``sparse = True`` gives the same weights with sparse gradients."""
        _, optimizer = self.make()
        if not getattr(type(optimizer), "sparse", False):
            return
        dense, sparse = self.run(12), self.run(12, sparse=True)
        for name in dense:
            torch.testing.assert_close(sparse[name], dense[name])

    def make(self) -> tuple[dict[str, nn.Parameter], torch.optim.Optimizer]:
        """Weights of every kind, and their optimiser."""
        draw = torch.Generator().manual_seed(0)
        weights = {
            "table": nn.Parameter(torch.randn(20, 4, generator=draw)),
            "matrix": nn.Parameter(torch.randn(1, 4, generator=draw)),
            "vector": nn.Parameter(torch.zeros(1)),
        }
        return weights, self.optimizer([{"params": [weight], "kind": kind} for kind, weight in weights.items()])

    def run(self, steps: int, *, sparse: bool = False) -> dict[str, Tensor]:
        """Weights after some steps."""
        weights, optimizer = self.make()
        for i in range(steps):
            step(weights, optimizer, i, sparse=sparse)
        return {name: weight.detach() for name, weight in weights.items()}


def step(weights: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer, i: int, *, sparse: bool = False) -> Tensor:
    """One step on batch i of a small regression; returns the loss before it."""
    draw = torch.Generator().manual_seed(100 + i)
    rows = torch.randint(0, 15, (16,), generator=draw)
    wanted = rows.float().sin()
    hidden = F.embedding(rows, weights["table"], sparse=sparse)
    loss = F.mse_loss((hidden @ weights["matrix"].T).squeeze(1) + weights["vector"], wanted)
    torch.autograd.backward(loss)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss.detach()
