from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

from embedkit.nn.block import Block
from embedkit.nn.layer import Layer
from embedkit.training.compute import compile_layers


@pytest.fixture
def _traced(monkeypatch):
    """Layers are traced as for a compiler, which is then left out: it would take half a minute."""
    real = nn.Module.compile
    monkeypatch.setattr(Layer, "compile", lambda self, **options: real(self, backend="eager", **options))
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def stack():
    torch.manual_seed(0)
    return nn.ModuleDict({"blocks": nn.ModuleList(Block(16, 2, 32, 0.0, 2) for _ in range(2)), "last": nn.Linear(16, 4)})


def learned(model, length):
    model.zero_grad()
    x = torch.randn(3, length, 16, generator=torch.Generator().manual_seed(length)).requires_grad_()
    for block in model["blocks"]:
        x = block(x, None, True)
    model["last"](x).square().sum().backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.usefixtures("_traced")
def test_compiled_layers_learn_as_before_at_every_length():
    plain = stack()
    compiled = copy.deepcopy(plain)
    compile_layers(compiled)
    for length in (5, 9, 2):
        for (name, found), wanted in zip(learned(compiled, length).items(), learned(plain, length).values(), strict=True):
            torch.testing.assert_close(found, wanted, msg=name)
    assert counters["stats"]["unique_graphs"] == 1, "two layers and three lengths share one graph"
    assert not counters["graph_break"]


def test_only_layers_are_compiled_and_parameters_keep_their_names(monkeypatch):
    seen = []
    monkeypatch.setattr(nn.Module, "compile", lambda self, **options: seen.append((type(self), options)))
    model = stack()
    names = list(model.state_dict())
    assert compile_layers(model) == 2
    assert seen == [(Block, {"dynamic": True})] * 2
    assert list(model.state_dict()) == names
