from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from embedkit.errors import UsageError
from embedkit.nn.trunk import TrunkContext
from embedkit.testing.conformance.trunk import TrunkConformance
from embedkit.testing.conformance.values import field, random_tokens
from embedkit_tabular.configs import AttentionConfig, MeanConfig, MlpConfig
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
