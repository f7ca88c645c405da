from __future__ import annotations

import torch

from embedkit.nn.head import HeadContext
from embedkit.testing.conformance.head import HeadConformance
from embedkit_tabular.configs import ResNetHeadConfig
from embedkit_tabular.resnet import ResNetHead

CONTEXT = HeadContext("row", 12)


class TestResNetHead(HeadConformance):
    def head(self):
        return ResNetHead(ResNetHeadConfig(dim=3, width=8), context=CONTEXT)


class TestResNetHeadWithLayerNorm(HeadConformance):
    def head(self):
        return ResNetHead(ResNetHeadConfig(layers=1, width=6, norm="layer", normalize=True), context=CONTEXT)


def test_it_is_a_residual_perceptron():
    torch.manual_seed(0)
    head = ResNetHead(ResNetHeadConfig(dim=2, layers=1, width=5, norm="layer"), context=CONTEXT).eval()
    x = torch.randn(4, 12)
    (block,) = head.blocks
    entered = head.first(x)
    entered = entered + block.narrow(torch.relu(block.wide(block.norm(entered))))
    torch.testing.assert_close(head(x), head.last(torch.relu(head.norm(entered))))
    assert (head.prefixes, head.metric) == ((2,), "dot")


def test_batch_norm_counts_every_position_as_a_row():
    """Positions of windows are normalised together with each other, not each position over the rows alone."""
    torch.manual_seed(0)
    head = ResNetHead(ResNetHeadConfig(dim=2, width=8, hidden_dropout=0.0), context=CONTEXT).train()
    x = torch.randn(3, 4, 12)
    torch.testing.assert_close(head(x).flatten(0, 1), head(x.flatten(0, 1)))
