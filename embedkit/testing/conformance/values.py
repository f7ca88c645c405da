"""Small values that tests of encoders, trunks and models are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from embedkit.component import Config
from embedkit.config.plan import EncoderPart, Part
from embedkit.data.columns import Column
from embedkit.nn.values import Tokens
from embedkit.registry import Entry, Owner
from embedkit.schema import FieldSpec

ROUNDING = 1e-7
"""A gradient this small is rounding: the parameter does nothing (a constant added before a softmax, say)."""


def field(name: str, type: str, *, domain: str | None = None, table: str = "items") -> FieldSpec:
    """A feature field; its domain is its name unless given."""
    return FieldSpec(name, type, table, name, domain or name)


def part(kind: str, name: str, target: type, config: Config, fields: Sequence[str] | None = None) -> Part:
    """A component of a plan without a registry; with ``fields``, an ``EncoderPart``."""
    entry = Entry(kind, name, Owner("testing"), target, type(config))
    return Part(entry, config) if fields is None else EncoderPart(entry, config, tuple(fields))


def ragged(lists: Sequence[Sequence[float] | None], dtype: torch.dtype = torch.int64) -> Column:
    """A ragged column of these lists; None is a missing row."""
    values = torch.tensor([value for row in lists for value in row or ()], dtype=dtype)
    offsets = torch.tensor([0, *(len(row or ()) for row in lists)]).cumsum(0)
    present = torch.tensor([row is not None for row in lists])
    return Column(values, offsets, None if present.all() else present)


def random_tokens(lengths: Mapping[str, Sequence[int]], dim: int, seed: int = 0) -> Tokens:
    """Random tokens: field → tokens of each row, padding last and holding zeros."""
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for name, counts in lengths.items():
        width = max(1, *counts)
        pad = torch.arange(width).unsqueeze(0) >= torch.tensor(counts).unsqueeze(1)
        x = torch.randn(len(counts), width, dim, generator=generator).masked_fill(pad.unsqueeze(-1), 0.0)
        parts.append(Tokens(x, pad, torch.zeros_like(pad), {name: slice(0, width)}))
    return Tokens.cat(parts)


def gradients(module: nn.Module, loss: Callable[[], Tensor]) -> dict[str, Tensor]:
    """The gradient of a loss for each parameter (dense, zeros where none came), from a clean start; none for a module without any."""
    if not list(module.parameters()):
        return {}
    module.zero_grad(set_to_none=True)
    torch.autograd.backward(loss())
    found = {}
    for name, parameter in module.named_parameters():
        gradient = parameter.grad
        found[name] = torch.zeros_like(parameter) if gradient is None else gradient.to_dense() if gradient.is_sparse else gradient.clone()
    return found


class deterministic:  # noqa: N801 - reads as a context
    """Within: torch's deterministic algorithms, an error where there is none."""

    def __enter__(self) -> None:
        self._before = torch.are_deterministic_algorithms_enabled()
        torch.use_deterministic_algorithms(True)

    def __exit__(self, *error: Any) -> None:
        torch.use_deterministic_algorithms(self._before)
