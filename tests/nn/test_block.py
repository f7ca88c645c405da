from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from embedkit.nn.block import Block, attend


@pytest.mark.parametrize("causal", [False, True])
def test_attention_on_a_cpu_is_that_of_float32(causal):
    q, k, v = (torch.randn(2, 3, 5, 8).bfloat16() for _ in range(3))
    wanted = F.scaled_dot_product_attention(q.float(), k.float(), v.float(), is_causal=causal)
    with torch.autocast("cpu", torch.bfloat16):
        found = attend(q, k, v, None, causal)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, wanted)


def test_a_block_in_bfloat16_learns_as_one_in_float32():
    torch.manual_seed(0)
    block, x = Block(16, 2, 32, 0.0, 1), torch.randn(4, 6, 16)
    mask = (torch.rand(4, 1, 6, 6) < 0.7) | torch.eye(6, dtype=torch.bool)
    gradients = []
    for enabled in (False, True):
        block.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            block(x, mask).float().square().sum().backward()
        gradients.append(block.qkv.weight.grad.clone())
    exact, rounded = gradients
    assert (rounded - exact).norm() < 0.02 * exact.norm()
