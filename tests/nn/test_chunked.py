"""The chunked softmax cross entropy: the definition, the same gradients in chunks, and never all logits at once."""

from __future__ import annotations

import pytest
import torch

from embedkit.nn.chunked import cross_entropy

N, C, E = 11, 17, 4


def inputs(seed=0):
    g = torch.Generator().manual_seed(seed)
    draw = lambda *size: torch.randn(*size, generator=g, dtype=torch.float64).requires_grad_()  # noqa: E731
    return {"queries": draw(N, E), "candidates": draw(C, E), "correction": draw(C), "positive": draw(N)}, g


def by_hand(x, own, scale, rows, positive):
    """The definition, one query at a time."""
    losses = []
    for i in range(N):
        logits = scale * (x["candidates"] @ x["queries"][i]) + x["correction"]
        of_own = x["positive"][i] if positive else logits[own[i]]
        left_out = {int(own[i])} if rows is None else {j for j in range(C) if rows[1][j] == rows[0][i]} | ({int(own[i])} - {-1})
        others = [logits[j] for j in range(C) if j not in left_out]
        losses.append(torch.logsumexp(torch.stack([of_own, *others]), 0) - of_own)
    return torch.stack(losses)


@pytest.mark.parametrize("with_rows", [True, False])
@pytest.mark.parametrize("with_positive", [True, False])
@pytest.mark.parametrize("most", [10**6, 3 * C, 1])
def test_is_the_definition_in_any_number_of_chunks(with_rows, with_positive, most):
    x, g = inputs()
    own = torch.randperm(C, generator=g)[:N]
    numbers = torch.randint(0, 6, (C,), generator=g)
    rows = (numbers[own], numbers) if with_rows else None
    if with_positive:
        own = own.clone()
        own[::3] = -1
    wanted = by_hand(x, own, 0.7, rows, with_positive)
    weights = torch.arange(1.0, N + 1, dtype=torch.float64)
    used = [x["queries"], x["candidates"], x["correction"], *([x["positive"]] if with_positive else [])]
    gradients = torch.autograd.grad((wanted * weights).sum(), used)
    found = cross_entropy(
        x["queries"],
        x["candidates"],
        own,
        scale=0.7,
        correction=x["correction"],
        rows=rows,
        positive=x["positive"] if with_positive else None,
        most=most,
    )
    torch.testing.assert_close(found, wanted)
    for ours, theirs in zip(torch.autograd.grad((found * weights).sum(), used), gradients, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_no_more_logits_than_allowed_are_held():
    x, _ = inputs()
    own = torch.arange(N)
    sizes = []

    def see(tensor):
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(see, lambda tensor: tensor):
        losses = cross_entropy(x["queries"], x["candidates"], own, rows=(own, torch.arange(C)), most=2 * C)
        losses.sum().backward()
    assert max(sizes) <= max(2 * C, N * E, C * E)


def test_no_queries():
    x, _ = inputs()
    found = cross_entropy(x["queries"][:0], x["candidates"], torch.zeros(0, dtype=torch.int64))
    assert found.shape == (0,)
    found.sum().backward()
    assert not x["candidates"].grad.any()
