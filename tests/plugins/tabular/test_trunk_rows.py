from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from embedkit.errors import UsageError
from embedkit.nn.trunk import TrunkContext
from embedkit.nn.values import Tokens
from embedkit.testing.conformance.trunk import TrunkConformance
from embedkit.testing.conformance.values import field, random_tokens
from embedkit_tabular.configs import AttentionConfig, CrossConfig, MeanConfig, MlpConfig
from embedkit_tabular.cross import Cross, CrossLayer
from embedkit_tabular.trunks import Attention, Mean, Mlp

FIELDS = (field("id", "category"), field("history", "sequence"), field("price", "number"))
CONTEXT = TrunkContext("item", FIELDS, 8, {"id": 1, "history": 6, "price": 1})
FLAT = TrunkContext("item", FIELDS[::2], 8, {"id": 1, "price": 1})


class TestMlp(TrunkConformance):
    def trunk(self):
        return Mlp(MlpConfig(hidden=[16, 12]), context=CONTEXT)


class TestPlainMlp(TrunkConformance):
    def trunk(self):
        return Mlp(MlpConfig(hidden=[], residual=False, activation="relu", dropout=0.5), context=FLAT)


class TestCross(TrunkConformance):
    def trunk(self):
        return Cross(CrossConfig(hidden=[16, 12]), context=CONTEXT)


class TestStackedLowRankCross(TrunkConformance):
    def trunk(self):
        return Cross(CrossConfig(layers=3, rank=4, structure="stacked", hidden=[16], activation="gelu", dropout=0.5), context=CONTEXT)


class TestCrossAlone(TrunkConformance):
    def trunk(self):
        return Cross(CrossConfig(hidden=[]), context=FLAT)


class TestMean(TrunkConformance):
    def trunk(self):
        return Mean(MeanConfig(), context=CONTEXT)


class TestNormalizedMean(TrunkConformance):
    def trunk(self):
        return Mean(MeanConfig(norm=True), context=CONTEXT)


class TestAttention(TrunkConformance):
    def trunk(self):
        return Attention(AttentionConfig(heads=2), context=CONTEXT)


def test_an_absent_field_is_a_slot_of_zeros():
    torch.manual_seed(0)
    trunk = Mlp(MlpConfig(residual=False), context=FLAT)
    tokens = random_tokens({"id": [1, 1], "price": [1, 1]}, 8)
    zeroed = replace(tokens, x=tokens.x * torch.tensor([1.0, 0.0]).view(1, 2, 1))
    torch.testing.assert_close(trunk(tokens.select(["id"]))[1], trunk(zeroed)[1])
    gone = replace(tokens, pad=torch.tensor([[False, True], [False, True]]))
    torch.testing.assert_close(trunk(gone)[1], trunk(zeroed)[1])


def test_fields_have_weights_of_their_own():
    """Swapping two fields' tokens changes what an mlp gives, never what a mean does."""
    torch.manual_seed(0)
    tokens = random_tokens({"id": [1, 1], "price": [1, 1]}, 8)
    swapped = replace(tokens, x=tokens.x.flip(1))
    mlp, mean = Mlp(MlpConfig(), context=FLAT), Mean(MeanConfig(), context=FLAT)
    assert not torch.allclose(mlp(tokens)[1], mlp(swapped)[1])
    torch.testing.assert_close(mean(tokens)[1], mean(swapped)[1])


def test_a_mean_is_the_mean_of_what_is_there():
    tokens = random_tokens({"id": [1, 1], "history": [3, 1]}, 8)
    pooled = Mean(MeanConfig(), context=CONTEXT)(tokens)[1]
    torch.testing.assert_close(pooled[0], tokens.x[0].mean(0))
    torch.testing.assert_close(pooled[1], tokens.x[1, :2].mean(0))


def test_a_running_mean_sees_what_came_before_and_the_other_fields():
    tokens = random_tokens({"id": [1], "history": [3], "price": [1]}, 8)
    pooled = Mean(MeanConfig(), context=CONTEXT)(tokens, window="history")[1]
    for t in range(3):
        torch.testing.assert_close(pooled[0, t], torch.cat([tokens.x[0, : t + 2], tokens.x[0, -1:]]).mean(0))


def test_heads_divide_the_width():
    with pytest.raises(UsageError, match="tower 'item': attention's 3 heads do not divide the model's dim 8"):
        Attention(AttentionConfig(heads=3), context=CONTEXT)


@pytest.mark.parametrize("rank", [None, 3])
def test_a_cross_layer_multiplies_by_the_first_input(rank):
    """DCN-V2's equation: x0 * (W x + b) + x."""
    torch.manual_seed(0)
    layer = CrossLayer(6, rank)
    first, x = torch.randn(2, 4, 6)
    if rank is None:
        weight, bias = layer.linear.weight, layer.linear.bias
    else:
        weight, bias = layer.linear[1].weight @ layer.linear[0].weight, layer.linear[1].bias
    torch.testing.assert_close(layer(first, x), first * (x @ weight.T + bias) + x)


def test_crosses_alone_learn_a_product():
    """y = a * b of two fields of one number each, which no sum over the fields can tell."""
    torch.manual_seed(0)
    fields = (field("a", "number"), field("b", "number"))
    trunk = Cross(CrossConfig(layers=1, hidden=[]), context=TrunkContext("row", fields, 1, {"a": 1, "b": 1}))
    optimizer = torch.optim.Adam(trunk.parameters(), lr=0.05)
    x = torch.randn(512, 2)
    for _ in range(300):
        loss = (trunk(tokens_of(x))[1][:, 0] - x[:, 0] * x[:, 1]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.01


def tokens_of(x):
    pad = torch.zeros(x.shape, dtype=torch.bool)
    return Tokens(x.unsqueeze(2), pad, pad, {"a": slice(0, 1), "b": slice(1, 2)})
