from __future__ import annotations

import pytest
import torch

from embedkit.data.codec import FieldStats
from embedkit.data.columns import Column
from embedkit.nn.encoder import EncoderContext
from embedkit.testing.conformance.encoder import EncoderConformance, encode
from embedkit.testing.conformance.values import field
from embedkit_tabular.configs import NumberEncoderConfig, TimestampEncoderConfig
from embedkit_tabular.encoders import NumberEncoder, PiecewiseLinear, TimestampEncoder

FIELDS = (field("price", "number"), field("size", "number"), field("constant", "number"))
STATS = {
    "price": FieldStats(9, 0, quantiles=torch.tensor([-2.0, -1.0, 0.0, 0.5, 3.0])),
    "size": FieldStats(9, 0, quantiles=torch.linspace(-1, 1, 101)),
    "constant": FieldStats(9, 0, quantiles=torch.tensor([0.0])),
}


def columns() -> dict[str, Column]:
    generator = torch.Generator().manual_seed(0)
    return {spec.name: Column(torch.randn(6, generator=generator)) for spec in FIELDS}


def make(**options) -> NumberEncoder:
    torch.manual_seed(0)
    return NumberEncoder(NumberEncoderConfig(**options), context=EncoderContext(FIELDS, STATS, dim=8)).eval()


class TestPiecewiseLinear(EncoderConformance):
    def encoder(self):
        # Two bins, so that a handful of values reach every one of them.
        return NumberEncoder(NumberEncoderConfig(kind="piecewise_linear", bins=2), context=EncoderContext(FIELDS, STATS, dim=8))

    def columns(self):
        return columns()


class TestLinear(EncoderConformance):
    def encoder(self):
        return NumberEncoder(NumberEncoderConfig(kind="linear"), context=EncoderContext(FIELDS, STATS, dim=8))

    def columns(self):
        return columns()


class TestPeriodic(EncoderConformance):
    def encoder(self):
        return NumberEncoder(NumberEncoderConfig(kind="periodic", frequencies=3, sigma=1.0), context=EncoderContext(FIELDS, STATS, dim=8))

    def columns(self):
        return columns()


class TestTimestamp(EncoderConformance):
    def encoder(self):
        fields = (field("bought", "timestamp"),)
        return TimestampEncoder(TimestampEncoderConfig(), context=EncoderContext(fields, {"bought": FieldStats(9, 0, width=3)}, dim=8))

    def columns(self):
        return {"bought": Column(torch.randn(5, 3, generator=torch.Generator().manual_seed(0)))}


def test_bins_fill_one_after_the_other():
    bins = PiecewiseLinear(torch.tensor([0.0, 1.0, 3.0, 4.0]))
    x = torch.tensor([[-1.0], [0.0], [0.5], [2.0], [3.0], [3.25], [6.0]])
    expect = [[-1, 0, 0], [0, 0, 0], [0.5, 0, 0], [1, 0.5, 0], [1, 1, 0], [1, 1, 0.25], [1, 1, 3]]
    torch.testing.assert_close(bins(x), torch.tensor(expect))


def test_a_number_may_bend():
    """Piecewise-linear tokens are linear within a bin and bend at its edges; linear ones never bend."""
    edges = [-2.0, -1.0, 0.0, 0.5, 3.0]
    for kind, bends in (("linear", False), ("piecewise_linear", True)):
        encoder = make(kind=kind)
        x = torch.tensor([edges[1] - 0.2, edges[1], edges[1] + 0.2, -0.6, -0.4, -0.2])
        token = encode(encoder, {"price": Column(x)}).x[:, 0]
        inside = token[3] - 2 * token[4] + token[5]
        across = token[0] - 2 * token[1] + token[2]
        assert inside.abs().max() < 1e-6
        assert (across.abs().max() > 1e-4) == bends


def test_bins_are_taken_from_the_quantiles():
    encoder = make(bins=10)
    assert encoder.bins["size"].edges.shape == (11,)
    torch.testing.assert_close(encoder.bins["size"].edges, torch.linspace(-1, 1, 11))
    assert encoder.bins["price"].edges.shape == (5,)


def test_a_number_without_a_spread_is_linear():
    tokens = encode(make(), {"constant": Column(torch.tensor([0.0, 1.0, 2.0]))}).x[:, 0]
    torch.testing.assert_close(tokens[2] - tokens[1], tokens[1] - tokens[0])


def test_numbers_start_as_large_as_table_rows():
    wide = NumberEncoder(NumberEncoderConfig(kind="linear"), context=EncoderContext(FIELDS[:1], STATS, dim=4096))
    token = encode(wide, {"price": Column(torch.tensor([1.0]))}).x
    assert token.std().item() == pytest.approx(0.05, rel=0.2)


def test_several_numbers_a_row():
    spec = field("size", "number")
    encoder = NumberEncoder(NumberEncoderConfig(), context=EncoderContext((spec,), {"size": FieldStats(9, 0, width=3)}, dim=8))
    assert encode(encoder, {"size": Column(torch.randn(4, 3))}).x.shape == (4, 1, 8)


def test_a_periodic_encoder_repeats_itself():
    """With one frequency of two periods a unit, x and x + 1/2 are one."""
    encoder = make(kind="periodic", frequencies=1)
    with torch.no_grad():
        encoder.bins["price"].frequency.fill_(2.0)
    x = torch.tensor([-0.3, 0.2, 0.7, 0.35])
    tokens = encode(encoder, {"price": Column(x)}).x[:, 0]
    torch.testing.assert_close(tokens[0], tokens[1], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(tokens[1], tokens[2], rtol=1e-4, atol=1e-6)
    assert not torch.allclose(tokens[2], tokens[3])
