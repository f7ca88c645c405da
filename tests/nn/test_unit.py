from __future__ import annotations

import torch

from embedkit.nn.unit import unit


def test_vectors_get_unit_length():
    x = torch.randn(5, 3, dtype=torch.bfloat16)
    y = unit(x)
    assert y.dtype == torch.float32
    torch.testing.assert_close(y, torch.nn.functional.normalize(x.float(), dim=-1))


def test_zero_stays_zero_and_has_no_gradient():
    x = torch.stack([torch.zeros(4), torch.full((4,), 1e-9), torch.ones(4)]).requires_grad_()
    y = unit(x)
    (y * torch.arange(4.0)).sum().backward()
    assert (y[:2] == 0).all()
    assert (x.grad[:2] == 0).all()
    assert x.grad[2].abs().sum() > 0
    assert x.grad.isfinite().all()


def test_gradients_are_those_of_the_formula():
    x = torch.randn(4, 3, requires_grad=True)
    left = torch.autograd.grad((unit(x) * torch.arange(3.0)).sum(), x)[0]
    right = torch.autograd.grad((torch.nn.functional.normalize(x, dim=-1) * torch.arange(3.0)).sum(), x)[0]
    torch.testing.assert_close(left, right)
