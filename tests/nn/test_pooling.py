from __future__ import annotations

import torch

from embedkit.nn.pooling import blank, masked_mean, running_mean, without_empty
from embedkit.testing.conformance.values import random_tokens


def test_a_mean_over_nothing_is_zero():
    x = torch.randn(2, 3, 4, requires_grad=True)
    pad = torch.tensor([[False, True, False], [True, True, True]])
    mean = masked_mean(x, pad)
    torch.testing.assert_close(mean[0], (x[0, 0] + x[0, 2]) / 2)
    assert (mean[1] == 0).all()
    mean.sum().backward()
    assert x.grad.isfinite().all()


def test_a_mean_of_one_token_is_that_token_or_zero():
    x = torch.randn(3, 1, 4)
    mean = masked_mean(x, torch.tensor([[False], [True], [False]]))
    torch.testing.assert_close(mean, torch.stack([x[0, 0], torch.zeros(4), x[2, 0]]))


def test_what_is_not_there_is_blank_and_has_no_gradient():
    x = torch.full((2, 3, 4), torch.nan).requires_grad_()
    nothing = torch.ones(2, 3, dtype=torch.bool)
    found = blank(x, nothing)
    found.sum().backward()
    assert (found == 0).all()
    assert (x.grad == 0).all()
    assert blank(x, ~nothing) is x


def test_ordered_fields_run_together():
    tokens = random_tokens({"a": [1], "history": [4], "actions": [2]}, 8)
    means = running_mean(tokens, "history", ["history", "actions"])
    x = tokens.x[0]
    for t in range(4):
        seen = torch.cat([x[:1], x[1 : 2 + t], x[5 : 5 + min(t + 1, 2)]])
        torch.testing.assert_close(means[0, t], seen.mean(0))


def test_rows_without_tokens_are_blanked_at_every_position():
    pooled = torch.ones(2, 3, 4)
    blank = without_empty(pooled, torch.tensor([[True, True], [True, False]]))
    assert (blank[0] == 0).all()
    assert (blank[1] == 1).all()
