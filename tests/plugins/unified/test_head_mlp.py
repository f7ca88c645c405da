from __future__ import annotations

import torch

from embedkit.nn.head import HeadContext
from embedkit.testing.conformance.head import HeadConformance
from embedkit_unified.configs import MlpHeadConfig
from embedkit_unified.mlp import Mlp

CONTEXT = HeadContext("item", 12)


class TestMlp(HeadConformance):
    def head(self):
        return Mlp(MlpHeadConfig(dim=3, hidden=[8, 5]), context=CONTEXT)


class TestMlpOfUnitLength(HeadConformance):
    def head(self):
        return Mlp(MlpHeadConfig(hidden=[], normalize=True, dropout=0.1), context=CONTEXT)


def test_it_is_a_perceptron():
    head = Mlp(MlpHeadConfig(dim=2, hidden=[4]), context=CONTEXT)
    x = torch.randn(5, 12, generator=torch.Generator().manual_seed(0))
    first, last = head.layers[0], head.layers[2]
    assert torch.allclose(head(x), torch.relu(x @ first.weight.T + first.bias) @ last.weight.T + last.bias)
    assert head.prefixes == (2,)
    assert head.metric == "dot"
