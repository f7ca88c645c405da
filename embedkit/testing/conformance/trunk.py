"""What every trunk must do. A plugin's test module subclasses ``TrunkConformance`` and says how the trunk is made.

A context with a field of one token and a ``sequence`` of at least six shows the most.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from embedkit.nn.trunk import Trunk
from embedkit.nn.values import Tokens
from embedkit.testing.conformance.values import ROUNDING, deterministic, gradients, random_tokens

ROWS = 5


class TrunkConformance:
    """Inherit, say how the trunk is made, and let pytest run it."""

    @abstractmethod
    def trunk(self) -> Trunk:
        """A new trunk; its weights come from torch's global seed."""

    def make(self, seed: int = 0) -> Trunk:
        """A trunk of a seed, in eval mode."""
        torch.manual_seed(seed)
        return self.trunk().eval()

    def test_shapes(self) -> None:
        """One pooled vector a row, tokens as wide as they came."""
        trunk = self.make()
        tokens = tokens_for(trunk)
        out, pooled, layers = trunk(tokens)
        assert pooled.shape == (ROWS, trunk.pooled_dim)
        assert out.x.shape == (*out.pad.shape, trunk.context.dim)
        assert layers == {}
        assert pooled.isfinite().all()

    def test_padding_changes_nothing(self) -> None:
        """Neither more of it nor what it holds."""
        trunk = self.make()
        tokens = tokens_for(trunk)
        _, expect, _ = trunk(tokens)
        spoilt = replace(tokens, x=tokens.x.masked_fill(tokens.pad.unsqueeze(-1), 3.0))
        torch.testing.assert_close(trunk(spoilt)[1], expect)
        torch.testing.assert_close(trunk(wider(tokens, trunk.context.max_lengths))[1], expect)

    def test_rows_do_not_see_each_other(self) -> None:
        """A row's vector is the same whatever else is in the batch."""
        trunk = self.make()
        tokens = tokens_for(trunk)
        order = torch.arange(ROWS - 1).flip(0)
        some = Tokens(tokens.x[order], tokens.pad[order], tokens.hidden[order], tokens.spans)
        torch.testing.assert_close(trunk(some)[1], trunk(tokens)[1][order])

    def test_a_row_without_tokens_is_zero(self) -> None:
        """A row of padding pools to zeros and gives finite gradients."""
        trunk = self.make()
        tokens = tokens_for(trunk)
        tokens.pad[0] = True
        tokens.x.masked_fill_(tokens.pad.unsqueeze(-1), 0.0).requires_grad_()
        _, pooled, _ = trunk(tokens)
        assert (pooled[0] == 0).all()
        found = gradients(trunk, lambda: trunk(tokens)[1].square().sum())
        assert all(gradient.isfinite().all() for gradient in found.values())
        assert tokens.x.grad is None or tokens.x.grad.isfinite().all()

    def test_fields_may_be_left_out(self) -> None:
        """A view may restrict a tower to any of its fields."""
        trunk = self.make()
        tokens = tokens_for(trunk)
        for name in tokens.spans:
            _, pooled, _ = trunk(tokens.select([name]))
            assert pooled.shape == (ROWS, trunk.pooled_dim)
            assert pooled.isfinite().all()

    def test_every_parameter_learns(self) -> None:
        """The pooled vector reaches every parameter."""
        trunk = self.make()
        tokens = tokens_for(trunk, full=True)
        weights = torch.randn(trunk.pooled_dim, generator=torch.Generator().manual_seed(3))
        for name, gradient in gradients(trunk, lambda: (trunk(tokens)[1] * weights).sum()).items():
            assert gradient.isfinite().all()
            assert gradient.abs().max() > ROUNDING, f"no gradient reaches {name}"

    def test_one_seed_one_result(self) -> None:
        """Equal bits, forward and backward, on as many threads as there are."""
        with deterministic():
            first, second = self.make(), self.make()
            tokens = tokens_for(first)
            left = gradients(first, lambda: first(tokens)[1].square().sum())
            for _ in range(3):
                right = gradients(second, lambda: second(tokens)[1].square().sum())
                assert all(torch.equal(left[name], right[name]) for name in left)

    def test_state_moves_to_another_instance(self) -> None:
        """A state dict restores the outputs."""
        first, second = self.make(0), self.make(1)
        second.load_state_dict(first.state_dict())
        tokens = tokens_for(first)
        assert torch.equal(first(tokens)[1], second(tokens)[1])

    def test_layers_are_shown(self) -> None:
        """``layers`` gives the depths asked for and changes nothing else."""
        trunk = self.make()
        depths = tuple(range(1, trunk.num_layers + 1))
        tokens = tokens_for(trunk)
        out, pooled, layers = trunk(tokens, layers=depths)
        assert tuple(layers) == depths
        assert all(state.shape == out.x.shape for state in layers.values())
        torch.testing.assert_close(pooled, trunk(tokens)[1])

    def test_positions_do_not_see_later_ones(self) -> None:
        """In a window, changing later values changes no earlier position."""
        trunk = self.make()
        for window in windows(trunk):
            tokens = tokens_for(trunk, full=True)
            span = tokens.spans[window]
            _, expect, _ = trunk(tokens, window=window)
            assert expect.shape == (ROWS, span.stop - span.start, trunk.pooled_dim)
            for t in range(span.stop - span.start - 1):
                x = tokens.x.clone()
                x[:, span.start + t + 1 : span.stop] *= torch.linspace(-2, 2, x.shape[2])
                _, changed, _ = trunk(replace(tokens, x=x), window=window)
                torch.testing.assert_close(changed[:, : t + 1], expect[:, : t + 1])
                assert not torch.allclose(changed[:, t + 1], expect[:, t + 1]), "a position sees its own value"

    def test_a_position_is_a_row_that_ends_there(self) -> None:
        """What is trained on windows is what rows are embedded with later."""
        trunk = self.make()
        for window in windows(trunk):
            tokens = tokens_for(trunk, full=True)
            _, positions, _ = trunk(tokens, window=window)
            ordered = [spec.name for spec in trunk.context.fields if spec.type == "sequence" and spec.name in tokens.spans]
            for t in range(positions.shape[1]):
                _, pooled, _ = trunk(cut(tokens, ordered, t + 1))
                torch.testing.assert_close(pooled, positions[:, t])


def windows(trunk: Trunk) -> list[str]:
    """The first sequence of a trunk that can do windows."""
    return [spec.name for spec in trunk.context.fields if spec.type == "sequence"][:1] if trunk.windows else []


def tokens_for(trunk: Trunk, *, full: bool = False) -> Tokens:
    """Random tokens of all fields of a trunk: ragged, one short of what it allows, or ``full``."""
    lengths: dict[str, Sequence[int]] = {}
    for spec in trunk.context.fields:
        most = trunk.context.max_lengths.get(spec.name, 1)
        lengths[spec.name] = [most] * ROWS if full or most == 1 else [max(1, most - 1 - row) for row in range(ROWS)]
    return random_tokens(lengths, trunk.context.dim)


def wider(tokens: Tokens, max_lengths: Mapping[str, int]) -> Tokens:
    """Each field padded to the most tokens it may have."""
    parts = []
    for name in tokens.spans:
        one = tokens.select([name])
        more = max_lengths.get(name, 1) - one.x.shape[1]
        x = torch.cat([one.x, one.x.new_full((ROWS, more, one.x.shape[2]), -2.0)], 1)
        parts.append(Tokens(x, _longer(one.pad, more, True), _longer(one.hidden, more, False), {name: slice(0, x.shape[1])}))
    return Tokens.cat(parts)


def cut(tokens: Tokens, fields: Sequence[str], length: int) -> Tokens:
    """These fields cut to their first tokens."""
    parts = []
    for name, span in tokens.spans.items():
        stop = min(span.stop, span.start + length) if name in fields else span.stop
        kept = slice(span.start, stop)
        parts.append(Tokens(tokens.x[:, kept], tokens.pad[:, kept], tokens.hidden[:, kept], {name: slice(0, stop - span.start)}))
    return Tokens.cat(parts)


def _longer(mask: Tensor, more: int, value: bool) -> Tensor:
    return torch.cat([mask, mask.new_full((mask.shape[0], more), value)], 1)
