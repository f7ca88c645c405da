"""A one-file plugin: an encoder that reads nothing of a category but how frequent its code is."""

import torch

from embedkit import hookimpl
from embedkit.component import Config
from embedkit.nn.encoder import Encoder


class RankConfig(Config):
    """No options."""


class Rank(Encoder):
    """A category → one token: the logarithm of its code, which vocabularies count from the most frequent value."""

    accepts = frozenset({"category"})

    def __init__(self, config, *, context):
        super().__init__(config, context=context)
        self.linear = torch.nn.Linear(1, context.dim)

    def embed(self, spec, column):
        """[B] → [B, 1, D]; every row has its token, so nothing is padded."""
        return self.linear(torch.log1p(column.values.float()).view(-1, 1, 1)), None


@hookimpl
def register_encoders(register):
    register("rank", Rank, config=RankConfig, summary="How frequent a category is.")
