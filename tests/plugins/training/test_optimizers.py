from __future__ import annotations

import pytest
import torch

from embedkit.testing.conformance.optimizer import OptimizerConformance
from embedkit_training.configs import AdamWConfig, RowwiseAdagradConfig, SGDConfig
from embedkit_training.optimizers import SGD, AdamW, RowwiseAdagrad


class TestAdamW(OptimizerConformance):
    def optimizer(self, groups):
        return AdamW(groups, AdamWConfig(lr=0.05))


class TestSGD(OptimizerConformance):
    def optimizer(self, groups):
        return SGD(groups, SGDConfig(lr=0.1, momentum=0.9))


class TestRowwiseAdagrad(OptimizerConformance):
    def optimizer(self, groups):
        return RowwiseAdagrad(groups, RowwiseAdagradConfig(lr=0.2))


@pytest.mark.parametrize("sparse", [False, True])
def test_rowwise_adagrad_by_hand(sparse):
    table = torch.nn.Parameter(torch.zeros(4, 2))
    optimizer = RowwiseAdagrad([{"params": [table], "kind": "table"}], RowwiseAdagradConfig(lr=0.5, initial_accumulator=0.25))
    grad = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 0.0], [1.0, 0.0]])
    wanted, total = torch.zeros(4, 2), torch.full((4,), 0.25)
    for _ in range(3):
        table.grad = grad.to_sparse(1) if sparse else grad.clone()
        optimizer.step()
        total = total + (grad**2).mean(1)
        wanted = wanted - 0.5 * grad / (total.sqrt() + 1e-8).unsqueeze(1)
    torch.testing.assert_close(table.detach(), wanted)
    assert optimizer.state[table]["sum"].shape == (4,)


def test_repeated_rows_of_a_sparse_gradient_count_once():
    table = torch.nn.Parameter(torch.zeros(3, 1))
    optimizer = RowwiseAdagrad([{"params": [table], "kind": "table"}], RowwiseAdagradConfig(lr=1.0))
    table.grad = torch.sparse_coo_tensor(torch.tensor([[1, 1]]), torch.tensor([[1.0], [2.0]]), (3, 1))
    optimizer.step()
    torch.testing.assert_close(table.detach(), torch.tensor([[0.0], [-1.0], [0.0]]))
    assert optimizer.state[table]["sum"].tolist() == [0.0, 9.0, 0.0]


@pytest.mark.parametrize(("decay_on", "shrinks"), [(("matrix",), {"matrix"}), (("matrix", "table"), {"matrix", "table"}), ((), set())])
def test_weight_decay_keeps_to_the_kinds_named(decay_on, shrinks):
    weights = {"matrix": torch.ones(2, 2), "vector": torch.ones(2), "table": torch.ones(5, 2)}
    parameters = {kind: torch.nn.Parameter(w) for kind, w in weights.items()}
    config = AdamWConfig(lr=0.1, weight_decay=0.5, decay_on=decay_on)
    optimizer = AdamW([{"params": [p], "kind": kind} for kind, p in parameters.items()], config)
    for parameter in parameters.values():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    assert {kind for kind, p in parameters.items() if float(p.detach().sum()) < p.numel()} == shrinks
