"""Vectors of unit length."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

SMALLEST = 1e-6
"""Norm below which a vector has no direction worth keeping."""


def unit(x: Tensor) -> Tensor:
    """Bring the last dimension to unit length, in float32.

    A vector shorter than ``SMALLEST`` becomes zeros with zero gradient. ``F.normalize`` would divide its gradient by its epsilon
    (1e-12), and one row without any value would then wreck a training step.
    """
    return cast(Tensor, _Unit.apply(x.float()))  # type: ignore[no-untyped-call]


class _Unit(torch.autograd.Function):
    """By hand: a whole catalogue is normalised every step, and autograd would go over it three times as often."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        inverse = torch.where(norm < SMALLEST, 0.0, norm.reciprocal())
        y = x * inverse
        ctx.save_for_backward(y, inverse)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        """The part of the gradient that turns the vector, over its length."""
        y, inverse = ctx.saved_tensors
        work = grads[0] * y
        along = work.sum(-1, keepdim=True)
        return torch.addcmul(grads[0], y, along, value=-1.0, out=work).mul_(inverse)
