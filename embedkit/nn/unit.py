"""Vectors of unit length."""

from __future__ import annotations

from torch import Tensor

SMALLEST = 1e-6
"""Norm below which a vector has no direction worth keeping."""


def unit(x: Tensor) -> Tensor:
    """Bring the last dimension to unit length, in float32.

    A vector shorter than ``SMALLEST`` becomes zeros with zero gradient. ``F.normalize`` would divide its gradient by its epsilon
    (1e-12), and one row without any value would then wreck a training step.
    """
    x = x.float()
    square = x.square().sum(-1, keepdim=True)
    short = square < SMALLEST**2
    return (x * square.masked_fill(short, 1.0).rsqrt()).masked_fill(short, 0.0)
