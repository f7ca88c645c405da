from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from embedkit.errors import UsageError
from embedkit.nn.head import HeadContext
from embedkit.testing.conformance.head import HeadConformance
from embedkit_unified.configs import LinearConfig, MatryoshkaConfig
from embedkit_unified.heads import Linear, Matryoshka

CONTEXT = HeadContext("item", 12)


class TestLinear(HeadConformance):
    def head(self):
        return Linear(LinearConfig(dim=7), context=CONTEXT)


class TestIdentity(HeadConformance):
    def head(self):
        return Linear(LinearConfig(identity=True), context=CONTEXT)


class TestDot(HeadConformance):
    def head(self):
        return Linear(LinearConfig(normalize=False, bias=False), context=CONTEXT)


class TestMatryoshka(HeadConformance):
    def head(self):
        return Matryoshka(MatryoshkaConfig(dims=[2, 4, 16]), context=CONTEXT)


def test_widths():
    assert Linear(LinearConfig(), context=CONTEXT).prefixes == (12,)
    assert Matryoshka(MatryoshkaConfig(dims=[2, 4, 16]), context=CONTEXT).prefixes == (2, 4, 16)


def test_identity_changes_nothing():
    x = torch.randn(3, 12)
    assert torch.equal(Linear(LinearConfig(identity=True), context=CONTEXT)(x), x)


def test_the_projection_starts_by_keeping_angles():
    x = torch.randn(3, 12)
    y = Linear(LinearConfig(), context=CONTEXT)(x)
    torch.testing.assert_close(y @ y.T, x @ x.T, rtol=1e-4, atol=1e-4)


def test_how_embeddings_are_compared():
    assert Linear(LinearConfig(), context=CONTEXT).metric == "cosine"
    head = Linear(LinearConfig(normalize=False), context=CONTEXT)
    assert head.metric == "dot"
    assert not head.normalized


@pytest.mark.parametrize("dims", [[], [4, 2], [4, 4], [0, 2]])
def test_nested_widths_ascend(dims):
    with pytest.raises(ValidationError):
        MatryoshkaConfig(dims=dims)


def test_identity_has_no_width_of_its_own():
    with pytest.raises(UsageError, match="tower 'item': an identity head keeps the 12 numbers of the trunk's vector, it cannot give 4"):
        Linear(LinearConfig(identity=True, dim=4), context=CONTEXT)
    with pytest.raises(UsageError, match="an identity head keeps the 12 numbers of the trunk's vector, it cannot give 8"):
        Matryoshka(MatryoshkaConfig(identity=True, dims=[4, 8]), context=CONTEXT)
    assert Linear(LinearConfig(identity=True, dim=12), context=CONTEXT).prefixes == (12,)


def test_an_identity_is_nested_as_it_is():
    head = Matryoshka(MatryoshkaConfig(identity=True, dims=[4, 12]), context=CONTEXT)
    pooled = torch.arange(24.0).reshape(2, 12)
    assert torch.equal(head(pooled), pooled)
    assert head.prefixes == (4, 12)
    assert not list(head.parameters())
