"""Cross entropy against candidates: the definition and its gradients in any number of pieces, and never all logits at once."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from embedkit.nn import partition
from embedkit.nn.sampled_cross_entropy import sampled_cross_entropy

N, C, E = 37, 53, 8


def inputs(unit=True):
    g = torch.Generator().manual_seed(0)
    queries, candidates = torch.randn(N, E, generator=g), torch.randn(C, E, generator=g)
    if unit:
        queries, candidates = F.normalize(queries, dim=1), F.normalize(candidates, dim=1)
    positives, weights = 3 * torch.randn(N, generator=g), torch.rand(N, generator=g)
    weights[3] = 0.0
    numbers = torch.randint(0, 9, (N,), generator=g), torch.randint(0, 9, (C,), generator=g)
    return queries.requires_grad_(), positives.requires_grad_(), candidates.requires_grad_(), weights, numbers


def plain(queries, positives, candidates, weights, scale, bias, numbers):
    logits = scale * queries @ candidates.T + (0.0 if bias is None else bias)
    if numbers is not None:
        logits = logits.masked_fill(numbers[0].unsqueeze(1) == numbers[1], -torch.inf)
    losses = F.cross_entropy(torch.cat([positives.unsqueeze(1), logits], 1), torch.zeros(len(queries), dtype=torch.int64), reduction="none")
    return (weights * losses).sum()


@pytest.mark.parametrize(("block", "aligned"), [(65_536, 1), (20, 1), (65_536, 8), (24, 8)])
@pytest.mark.parametrize("budget", [1 << 24, 1])
@pytest.mark.parametrize("with_numbers", [True, False])
@pytest.mark.parametrize(
    ("scale", "with_bias", "unit"), [(14.0, False, True), (14.0, True, True), (100.0, True, True), (3.0, False, False)]
)
def test_is_the_definition_in_any_number_of_pieces(monkeypatch, block, aligned, budget, with_numbers, scale, with_bias, unit):
    monkeypatch.setitem(partition._BLOCK, "cpu", block)
    monkeypatch.setitem(partition._ALIGNED, "cpu", aligned)
    monkeypatch.setitem(partition._BUDGET, "cpu", budget)
    *given, weights, numbers = inputs(unit)
    bias = None
    if with_bias:
        bias = 4 * torch.randn(C, generator=torch.Generator().manual_seed(1)) - 7
        bias[[0, 30]] = torch.tensor([-1e9, -torch.inf])
    numbers = numbers if with_numbers else None
    wanted = plain(*given, weights, scale, bias, numbers)
    found = sampled_cross_entropy(*given, weights, scale=scale, bias=bias, left_out=numbers, bounded=unit)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    for ours, theirs in zip(torch.autograd.grad(found * 2.0, given), torch.autograd.grad(wanted, given), strict=True):
        assert theirs.abs().max() > 0.05
        torch.testing.assert_close(ours, 2 * theirs, rtol=1e-4, atol=1e-5 * scale)


@pytest.mark.parametrize("scale", [14.0, 100.0])
def test_a_query_that_sees_no_candidate_has_nothing_to_learn(scale):
    queries, positives, candidates, weights, (own, numbers) = inputs()
    numbers = torch.zeros_like(numbers)
    own = torch.arange(N) % 2  # every second query sees none
    found = sampled_cross_entropy(queries, positives, candidates, weights, left_out=(own, numbers), scale=scale, bounded=True)
    found.backward()
    assert torch.isfinite(found)
    assert not queries.grad[::2].any()
    assert not positives.grad[::2].any()
    assert queries.grad[1].any()
    assert torch.isfinite(candidates.grad).all()
    none = sampled_cross_entropy(queries, positives, candidates[:0], weights, scale=scale, bounded=True)
    torch.testing.assert_close(none, torch.zeros(()), atol=1e-20, rtol=0)


def test_no_queries():
    queries, positives, candidates, weights, _ = inputs()
    found = sampled_cross_entropy(queries[:0], positives[:0], candidates, weights[:0])
    found.backward()
    assert float(found.detach()) == 0.0
    assert not candidates.grad.any()


def test_half_precision_is_near():
    g = torch.Generator().manual_seed(0)
    queries, candidates = (F.normalize(torch.randn(n, 32, generator=g), dim=1).requires_grad_() for n in (200, 400))
    given = (queries, 5 * torch.rand(200, generator=g), candidates, torch.ones(200))
    bias = torch.full((400,), -7.37)  # one number for all items is exact
    wanted = plain(*given, 14.0, bias, None)
    found = sampled_cross_entropy(*given, scale=14.0, bias=bias, bounded=True, precision=torch.bfloat16)
    assert abs(float(found.detach() / wanted.detach()) - 1) < 0.003
    for ours, theirs in zip(
        torch.autograd.grad(found, (queries, candidates)), torch.autograd.grad(wanted, (queries, candidates)), strict=True
    ):
        assert float((ours - theirs).norm() / theirs.norm()) < 0.02


def test_never_holds_queries_times_candidates(monkeypatch):
    seen = []
    monkeypatch.setitem(partition._BLOCK, "cpu", 64)
    monkeypatch.setitem(partition._BUDGET, "cpu", 16 * 64 * 4)
    real = partition.Items.logits
    monkeypatch.setattr(partition.Items, "logits", lambda self, q, block: seen.append(real(self, q, block).numel()) or real(self, q, block))
    g = torch.Generator().manual_seed(0)
    queries, candidates = torch.randn(100, E, generator=g), torch.randn(1_000, E, generator=g)
    sampled_cross_entropy(queries, torch.zeros(100), candidates, torch.ones(100), bounded=False)
    assert seen
    assert max(seen) <= 16 * 64
