from __future__ import annotations

import torch

from embedkit.nn.compact import compact, spread


def test_rows_keep_their_tokens_in_order():
    x = torch.arange(8.0).view(2, 4, 1)
    pad = torch.tensor([[True, False, True, False], [True, True, False, True]])
    short, rest = compact(x, pad)
    assert short[~rest].flatten().tolist() == [1.0, 3.0, 6.0]
    assert rest.tolist() == [[False, False], [False, True]]
    assert spread(short, pad).flatten().tolist() == [0, 1, 0, 3, 0, 0, 6, 0]


def test_a_batch_without_padding_stays_as_it_is():
    x = torch.randn(2, 3, 4)
    pad = torch.tensor([[False, False, True], [False, False, False]])
    short, rest = compact(x, pad)
    assert short is x
    assert rest is pad
    assert torch.equal(spread(x, pad), x.masked_fill(pad.unsqueeze(-1), 0.0))


def test_rows_without_tokens_and_batches_without_rows():
    nothing = torch.ones(2, 3, dtype=torch.bool)
    short, rest = compact(torch.ones(2, 3, 4), nothing)
    assert short.shape == (2, 1, 4)
    assert rest.all()
    assert not spread(short, nothing).any()
    assert compact(torch.ones(0, 3, 4), nothing[:0])[0].shape == (0, 3, 4)


def test_the_gradient_goes_to_the_tokens_that_are_there():
    x = torch.randn(3, 5, 2, requires_grad=True)
    pad = torch.rand(3, 5, generator=torch.Generator().manual_seed(0)) < 0.5
    short, _ = compact(x, pad)
    spread(short, pad).sum().backward()
    assert torch.equal(x.grad, (~pad).float().unsqueeze(-1).expand(-1, -1, 2))
