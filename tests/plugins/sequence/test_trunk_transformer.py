from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from embedkit.errors import DataError, UsageError
from embedkit.nn.block import Rotary
from embedkit.nn.trunk import TrunkContext
from embedkit.nn.values import Tokens
from embedkit.testing.conformance.trunk import TrunkConformance
from embedkit.testing.conformance.values import deterministic, field, gradients, random_tokens
from embedkit_sequence.configs import TransformerConfig
from embedkit_sequence.transformer import Transformer

FIELDS = (field("country", "category"), field("history", "sequence"), field("age", "number"), field("actions", "sequence"))
CONTEXT = TrunkContext("user", FIELDS, 8, {"country": 1, "history": 6, "age": 1, "actions": 6})
ALONE = TrunkContext("user", FIELDS[1:2], 8, {"history": 6})


def make(context=CONTEXT, **options) -> Transformer:
    torch.manual_seed(0)
    return Transformer(TransformerConfig(**options), context=context).eval()


class TestCausal(TrunkConformance):
    def trunk(self):
        return Transformer(TransformerConfig(), context=CONTEXT)


class TestCausalAlone(TrunkConformance):
    def trunk(self):
        return Transformer(TransformerConfig(layers=1), context=ALONE)


class TestCausalMean(TrunkConformance):
    def trunk(self):
        return Transformer(TransformerConfig(pooling="mean"), context=CONTEXT)


class TestRotary(TrunkConformance):
    def trunk(self):
        return Transformer(TransformerConfig(positions="rotary"), context=CONTEXT)


class TestBidirectionalMean(TrunkConformance):
    def trunk(self):
        return Transformer(TransformerConfig(causal=False, pooling="mean"), context=CONTEXT)


class TestQuery(TrunkConformance):
    def trunk(self):
        return Transformer(TransformerConfig(causal=False, pooling="query"), context=CONTEXT)


def test_which_options_can_do_windows():
    assert make().windows
    assert make(pooling="mean").windows
    assert not make(pooling="query").windows
    assert not make(causal=False).windows
    assert make(causal=False).sequences
    assert not make(causal=False, pooling="mean").sequences


def test_the_short_way_for_one_sequence_gives_the_same():
    """A lone sequence goes by the plain causal mask; a mask written out gives the same."""
    trunk = make(ALONE)
    tokens = random_tokens({"history": [6, 2, 4, 1]}, 8)
    short = trunk(tokens)[1]
    trunk._mask = lambda t: ((~t.pad.unsqueeze(1) & torch.ones(6, 6).tril().bool()).unsqueeze(1) | torch.eye(6).bool(), False)
    torch.testing.assert_close(trunk(tokens)[1], short)


def test_order_matters():
    trunk = make(ALONE)
    tokens = random_tokens({"history": [4, 4]}, 8)
    x = tokens.x.clone()
    x[:, [0, 1]] = tokens.x[:, [1, 0]]
    tokens_swapped = type(tokens)(x, tokens.pad, tokens.hidden, tokens.spans)
    assert not torch.allclose(trunk(tokens)[1], trunk(tokens_swapped)[1])


def test_other_fields_reach_every_position():
    trunk = make()
    tokens = random_tokens({"country": [1], "history": [4], "age": [1]}, 8)
    expect = trunk(tokens, window="history")[1]
    x = tokens.x.clone()
    x[:, 5] *= torch.linspace(-2, 2, 8)
    changed = trunk(type(tokens)(x, tokens.pad, tokens.hidden, tokens.spans), window="history")[1]
    assert all(not torch.allclose(changed[:, t], expect[:, t]) for t in range(4))


def test_a_row_reads_its_last_value():
    trunk = make()
    tokens = random_tokens({"country": [1, 1], "history": [3, 1], "age": [1, 1]}, 8)
    out, pooled, _ = trunk(tokens)
    torch.testing.assert_close(pooled, torch.stack([out.x[0, 3], out.x[1, 1]]))


def test_a_row_without_history_reads_its_other_fields():
    trunk = make()
    tokens = random_tokens({"country": [1, 1], "history": [3, 0], "age": [1, 1]}, 8)
    out, pooled, _ = trunk(tokens)
    torch.testing.assert_close(pooled[1], out.x[1, -1])


def test_the_last_layer_is_what_comes_out():
    trunk = make(layers=3)
    tokens = random_tokens({"history": [3, 6]}, 8)
    out, _, layers = trunk(tokens, layers=(1, 3))
    assert list(layers) == [1, 3]
    assert torch.equal(layers[3], out.x)
    assert not torch.allclose(layers[1], out.x)


def test_a_row_may_not_be_longer_than_its_positions():
    with pytest.raises(DataError, match="field 'history' has a row of 7 values, tower 'user' knows 6 positions"):
        make()(random_tokens({"history": [7]}, 8))


def test_only_the_first_sequence_can_be_the_window():
    with pytest.raises(UsageError, match="name 'actions' before its other sequences"):
        make()(random_tokens({"history": [3], "actions": [3]}, 8), window="actions")


def test_heads_divide_the_width():
    with pytest.raises(UsageError, match="3 heads do not divide the model's dim 8"):
        make(heads=3)


def test_many_threads_give_one_gradient():
    context = TrunkContext("user", FIELDS, 32, {"country": 1, "history": 20, "age": 1, "actions": 1})
    trunk = make(context, heads=4)
    tokens = random_tokens({"country": [1] * 32, "history": [1 + i % 20 for i in range(32)]}, 32)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with deterministic():
            found = [gradients(trunk, lambda: trunk(tokens)[1].square().sum()) for _ in range(4)]
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(found[0][name], other[name]) for other in found for name in other)


def test_rotary_products_depend_on_the_distance_alone():
    x = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))
    q, k = x.unsqueeze(1)

    def product(i, j):
        turned = [Rotary(torch.tensor([at]), 8)(one) for at, one in ((i, q), (j, k))]
        return (turned[0] * turned[1]).sum()

    torch.testing.assert_close(product(3, 1), product(12, 10))
    torch.testing.assert_close(product(7, 7), (q * k).sum())
    assert abs(float(product(3, 1) - product(3, 2))) > 1e-3


def test_rotary_positions_tell_the_order_and_know_no_longest_row():
    trunk = make(ALONE, positions="rotary")
    assert len(trunk.positions) == 0
    x = torch.randn(1, 9, 8, generator=torch.Generator().manual_seed(0))
    pad = torch.zeros(1, 9, dtype=torch.bool)
    there = trunk(Tokens(x, pad, pad, {"history": slice(0, 9)}))[1]
    changed = x.clone()
    changed[:, [0, 1]] = x[:, [1, 0]]
    assert not torch.allclose(there, trunk(Tokens(changed, pad, pad, {"history": slice(0, 9)}))[1], atol=1e-5)


def test_rotary_wants_pairs():
    with pytest.raises(UsageError, match="dim / heads is even"):
        make(replace(ALONE, dim=6), positions="rotary")
