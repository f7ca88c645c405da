"""Layer: a part of a trunk that may be compiled alone."""

from __future__ import annotations

from torch import nn


class Layer(nn.Module):
    """Base of parts of trunks, heads and losses that take and return tensors alone, such as one layer of a transformer.

    ``compute.compile`` compiles each of them by itself, for tensors of any size. Layers of one kind share what was compiled, so that it
    takes as long for twelve of them as for one, and what lies around them (ragged columns, masks, other towers) need not be compilable.
    """
