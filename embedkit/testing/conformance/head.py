"""What every head must do. A plugin's test module subclasses ``HeadConformance`` and says how the head is made."""

from __future__ import annotations

from abc import abstractmethod

import torch

from embedkit.nn.head import Head
from embedkit.nn.unit import unit
from embedkit.testing.conformance.values import ROUNDING, gradients


class HeadConformance:
    """Inherit, say how the head is made, and let pytest run it."""

    @abstractmethod
    def head(self) -> Head:
        """A new head; its weights come from torch's global seed."""

    def make(self, seed: int = 0) -> Head:
        """A head of a seed, in eval mode."""
        torch.manual_seed(seed)
        return self.head().eval()

    def test_prefixes_ascend_to_the_width(self) -> None:
        """The last prefix is the width of what ``forward`` gives."""
        head = self.make()
        out = head(torch.randn(5, head.context.dim))
        assert list(head.prefixes) == sorted(set(head.prefixes))
        assert head.prefixes[0] > 0
        assert out.shape == (5, head.prefixes[-1])
        assert head.metric in ("cosine", "dot")

    def test_rows_and_positions_are_one(self) -> None:
        """Leading dimensions are rows: [B, W, D] and [B * W, D] give the same."""
        head = self.make()
        pooled = torch.randn(3, 4, head.context.dim)
        torch.testing.assert_close(head(pooled).flatten(0, 1), head(pooled.flatten(0, 1)))

    def test_every_prefix_is_an_embedding(self) -> None:
        """Each prefix can be brought to unit length."""
        head = self.make()
        raw = head(torch.randn(6, head.context.dim))
        for dim in head.prefixes:
            norms = unit(raw[:, :dim]).norm(dim=-1)
            torch.testing.assert_close(norms, torch.ones(6))

    def test_every_parameter_learns(self) -> None:
        """The output reaches every parameter."""
        head = self.make()
        pooled = torch.randn(6, head.context.dim)
        scale = torch.arange(1.0, head.prefixes[-1] + 1)
        for name, gradient in gradients(head, lambda: (head(pooled) * scale).sum()).items():
            assert gradient.abs().max() > ROUNDING, f"no gradient reaches {name}"

    def test_a_row_of_zeros_is_finite(self) -> None:
        """A row without any value gives neither NaN nor an infinite gradient."""
        head = self.make()
        pooled = torch.zeros(2, head.context.dim, requires_grad=True)
        embedding = unit(head(pooled))
        (gradient,) = torch.autograd.grad(embedding.sum() + pooled.sum(), pooled)
        assert embedding.isfinite().all()
        assert gradient.isfinite().all()

    def test_state_moves_to_another_instance(self) -> None:
        """A state dict restores the outputs."""
        first, second = self.make(0), self.make(1)
        second.load_state_dict(first.state_dict())
        pooled = torch.randn(3, first.context.dim)
        assert torch.equal(first(pooled), second(pooled))
