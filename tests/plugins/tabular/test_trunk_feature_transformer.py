from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError

from embedkit.errors import UsageError
from embedkit.nn.trunk import TrunkContext
from embedkit.testing.conformance.trunk import TrunkConformance
from embedkit.testing.conformance.values import field, random_tokens
from embedkit_tabular.configs import FeatureTransformerConfig, ResNetConfig
from embedkit_tabular.feature_transformer import REGISTERS, FeatureTransformer
from embedkit_tabular.resnet import ResNet

FIELDS = (field("id", "category"), field("tags", "sequence"), field("price", "number"))
CONTEXT = TrunkContext("item", FIELDS, 8, {"id": 1, "tags": 6, "price": 1})
ROW = {"id": [1] * 4, "tags": [3, 1, 6, 2], "price": [1] * 4}


def make(context=CONTEXT, **options) -> FeatureTransformer:
    torch.manual_seed(0)
    # Larger marks than by default, so that what they change is no rounding.
    return FeatureTransformer(FeatureTransformerConfig(**{"layers": 2, "heads": 2, "init_std": 0.5} | options), context=context).eval()


class TestFeatureTransformer(TrunkConformance):
    def trunk(self):
        return FeatureTransformer(FeatureTransformerConfig(heads=2), context=CONTEXT)


class TestRegisters(TrunkConformance):
    def trunk(self):
        return FeatureTransformer(FeatureTransformerConfig(heads=2, registers=3, pooling="register"), context=CONTEXT)


class TestFlat(TrunkConformance):
    def trunk(self):
        return FeatureTransformer(FeatureTransformerConfig(heads=2, layers=1, registers=0, pooling="flatten", hidden=5), context=CONTEXT)


class TestResNet(TrunkConformance):
    def trunk(self):
        return ResNet(ResNetConfig(width=12), context=CONTEXT)


class TestResNetWithLayerNorm(TrunkConformance):
    def trunk(self):
        return ResNet(ResNetConfig(norm="layer", layers=1), context=CONTEXT)


def test_registers_come_first_and_are_never_hidden():
    tokens = random_tokens(ROW, 8)
    tokens = replace(tokens, hidden=torch.ones_like(tokens.hidden), pad=torch.ones_like(tokens.pad))
    out, *_ = make(registers=3)(tokens)
    assert list(out.spans) == [REGISTERS, "id", "tags", "price"]
    assert out.spans[REGISTERS] == slice(0, 3)
    assert out.spans["price"] == slice(10, 11)
    assert not out.hidden[:, :3].any()
    assert not out.pad[:, :3].any()
    assert out.hidden[:, 3:].all()


def test_features_pool_without_the_registers():
    tokens = random_tokens(ROW, 8)
    out, pooled, _ = make(registers=2)(tokens)
    torch.testing.assert_close(pooled[2], out.x[2, 2:].mean(0))
    _, first, _ = make(registers=2, pooling="register")(tokens)
    torch.testing.assert_close(first, out.x[:, 0])
    _, flat, _ = make(registers=2, pooling="flatten")(tokens)
    torch.testing.assert_close(flat, torch.cat([out.x[:, 2], flat[:, 8:16], out.x[:, -1]], 1))


def test_dropped_tokens_are_as_if_they_were_not_there():
    """Compacting changes no state: what is dropped may be anywhere in the row."""
    trunk = make(registers=1)
    tokens = random_tokens({"id": [1] * 4, "price": [1] * 4}, 8)
    pad = torch.tensor([[True, False], [False, True], [True, False], [True, False]])
    out, pooled, _ = trunk(replace(tokens, pad=pad))
    for row, name in enumerate(["price", "id", "price", "price"]):
        alone, vector, _ = trunk(tokens.select([name]))
        torch.testing.assert_close(out.x[row, out.spans[name]], alone.x[row, alone.spans[name]])
        torch.testing.assert_close(pooled[row], vector[row])
    assert not out.x[:, 1:][pad].any()


def test_fields_and_types_are_told_apart():
    tokens = random_tokens({"id": [1], "price": [1]}, 8)
    twice = replace(tokens, x=tokens.x[:, :1].expand(-1, 2, -1))
    out, *_ = make(registers=0)(twice)
    assert not torch.allclose(out.x[:, 0], out.x[:, 1])


def test_what_cannot_be_is_told():
    with pytest.raises(UsageError, match="tower 'item': feature_transformer's 3 heads do not divide the model's dim 8"):
        make(heads=3)
    with pytest.raises(ValidationError, match="registers is 0: set registers = 1"):
        FeatureTransformerConfig(pooling="register", registers=0)
    with pytest.raises(UsageError, match=r"keeps the name '\[reg\]' for itself"):
        make(TrunkContext("item", (field(REGISTERS, "number"),), 8, {}))


def test_a_resnet_trains_on_a_last_batch_of_one_row():
    torch.manual_seed(0)
    trunk = ResNet(ResNetConfig(hidden_dropout=0.0), context=CONTEXT).train()
    before = trunk.norm.running_mean.clone()
    trunk(random_tokens({"id": [1], "tags": [2], "price": [1]}, 8))[1].sum().backward()
    assert torch.equal(trunk.norm.running_mean, before)
    assert trunk.first.weight.grad.isfinite().all()
    trunk(random_tokens(ROW, 8))
    assert not torch.equal(trunk.norm.running_mean, before)
