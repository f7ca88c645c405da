from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from embedkit.nn import partition
from embedkit.nn.linear_cross_entropy import linear_cross_entropy


def draw(n=37, m=53, e=8, unit=True):
    g = torch.Generator().manual_seed(0)
    q, x = torch.randn(n, e, generator=g), torch.randn(m, e, generator=g)
    if unit:
        q, x = F.normalize(q, dim=1), F.normalize(x, dim=1)
    weights = torch.rand(n, generator=g)
    weights[3] = 0.0
    return q.requires_grad_(), x.requires_grad_(), torch.randint(0, m, (n,), generator=g), weights


def plain(q, x, labels, weights, scale, bias):
    logits = scale * q @ x.T + (0.0 if bias is None else bias)
    return (weights * F.cross_entropy(logits, labels, reduction="none")).sum()


@pytest.mark.parametrize(("block", "aligned"), [(65_536, 1), (20, 1), (65_536, 8), (24, 8)])
@pytest.mark.parametrize("rows", [1 << 24, 1])
@pytest.mark.parametrize(("scale", "bias", "unit"), [(14.0, None, True), (100.0, None, True), (3.0, "some", False), (200.0, "some", False)])
def test_value_and_gradients_are_those_of_the_plain_formula(monkeypatch, block, aligned, rows, scale, bias, unit):
    monkeypatch.setitem(partition._BLOCK, "cpu", block)
    monkeypatch.setitem(partition._ALIGNED, "cpu", aligned)
    monkeypatch.setitem(partition._BUDGET, "cpu", rows)
    q, x, labels, weights = draw(unit=unit)
    if bias:
        bias = torch.randn(len(x), generator=torch.Generator().manual_seed(1))
        out = (labels[0] + 1) % len(x)
        bias[out] = -torch.inf
        weights[labels == out] = 0.0
    want = plain(q, x, labels, weights, scale, bias) if bias is None else plain(q, x, labels, weights, scale, bias.clamp(min=-1e9))
    want_q, want_x = torch.autograd.grad(want, (q, x))
    found = linear_cross_entropy(q, x, labels, weights, scale=scale, bias=bias, bounded=unit)
    found_q, found_x = torch.autograd.grad(found * 2.0, (q, x))
    torch.testing.assert_close(found, want, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found_q, 2 * want_q, rtol=1e-4, atol=1e-5 * scale)
    torch.testing.assert_close(found_x, 2 * want_x, rtol=1e-4, atol=1e-5 * scale)


@pytest.mark.parametrize("budget", [1 << 24, 1])
def test_a_query_may_have_many_labels(monkeypatch, budget):
    monkeypatch.setitem(partition._BUDGET, "cpu", budget)
    q, x, labels, weights = draw()
    q = q.detach()[:5].requires_grad_()
    rows = torch.randint(0, 4, (37,), generator=torch.Generator().manual_seed(2))  # the last query has none
    bias = torch.randn(len(x), generator=torch.Generator().manual_seed(1))
    want = plain(q[rows], x, labels, weights, 14.0, bias)
    found = linear_cross_entropy(q, x, labels, weights, rows=rows, scale=14.0, bias=bias)
    torch.testing.assert_close(found, want, rtol=1e-5, atol=1e-5)
    for ours, theirs in zip(torch.autograd.grad(found, (q, x)), torch.autograd.grad(want, (q, x)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_half_precision_is_near(monkeypatch):
    q, x, labels, weights = draw(n=200, m=400, e=32)
    want = plain(q, x, labels, weights, 14.0, None)
    want_q, want_x = torch.autograd.grad(want, (q, x))
    found = linear_cross_entropy(q, x, labels, weights, scale=14.0, bounded=True, precision=torch.bfloat16)
    found_q, found_x = torch.autograd.grad(found, (q, x))
    assert abs(float(found.detach() / want.detach()) - 1) < 0.01
    for a, b in ((found_q, want_q), (found_x, want_x)):
        assert float((a - b).norm() / b.norm()) < 0.02


def test_rows_without_weight_have_no_gradient_and_may_name_any_item():
    q, x, labels, weights = draw()
    weights = torch.zeros_like(weights)
    found = linear_cross_entropy(q, x, labels, weights, scale=14.0, bounded=True)
    grads = torch.autograd.grad(found, (q, x))
    assert float(found.detach()) == 0.0
    assert all(float(g.abs().max()) == 0.0 for g in grads)


def test_never_holds_queries_times_items(monkeypatch):
    seen = []
    monkeypatch.setitem(partition._BLOCK, "cpu", 64)
    monkeypatch.setitem(partition._BUDGET, "cpu", 16 * 64 * 4)
    real = partition.Items.logits
    monkeypatch.setattr(partition.Items, "logits", lambda self, q, block: seen.append(real(self, q, block).numel()) or real(self, q, block))
    q, x, labels, weights = draw(n=100, m=1000)
    linear_cross_entropy(q, x, labels, weights, scale=14.0, bounded=True)
    assert max(seen) <= 16 * 64
