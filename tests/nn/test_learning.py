"""A small task that only a model whose rooms fit together can learn."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from embedkit.config.plan import ModelSpec
from embedkit.data.batch import Batch
from embedkit.data.codec import FieldStats
from embedkit.data.columns import Column
from embedkit.nn.model import Model
from embedkit.schema import Schema, Tower
from embedkit.testing.conformance.values import field, part, ragged
from embedkit.views import View
from embedkit_sequence.configs import TransformerConfig
from embedkit_sequence.transformer import Transformer
from embedkit_tabular.configs import MeanConfig, MlpConfig
from embedkit_tabular.trunks import Mean, Mlp
from embedkit_unified.configs import EmbeddingConfig, LinearConfig, UnifiedEmbeddingConfig
from embedkit_unified.embedding import Embedding
from embedkit_unified.heads import Linear
from embedkit_unified.unified import UnifiedEmbedding

ITEMS, LENGTH, USERS = 20, 6, 32
FIELDS = {"id": field("id", "category", domain="item"), "history": field("history", "sequence", domain="item")}
STATS = {"id": FieldStats(9, 0, size=ITEMS + 1), "history": FieldStats(9, 0, size=ITEMS + 1, max_length=LENGTH)}
CATALOGUE = Batch({"id": Column(torch.arange(1, ITEMS + 1))})


def make(encoder, trunk) -> Model:
    torch.manual_seed(0)
    head = part("head", "linear", Linear, LinearConfig())
    towers = {"item": Tower("item", ("id",), "items"), "user": Tower("user", ("history",), "users")}
    trunks = {"item": part("trunk", "mlp", Mlp, MlpConfig()), "user": trunk}
    encoders = (part("encoder", "table", *encoder, ("id", "history")),)
    return Model(ModelSpec(Schema(FIELDS, towers, {}), {}, 16, encoders, trunks, {"item": head, "user": head}), STATS)


def windows(generator: torch.Generator) -> tuple[Batch, torch.Tensor]:
    """Histories that go up by one or by two at a time, round and round: what comes next depends on the last two items.

    Returns the batch and, for each value of each history, the item row that follows.
    """
    start = torch.randint(0, ITEMS, (USERS,), generator=generator)
    pace = torch.randint(1, 3, (USERS,), generator=generator)
    walk = (start.unsqueeze(1) + pace.unsqueeze(1) * torch.arange(LENGTH + 1)) % ITEMS
    lengths = torch.randint(2, LENGTH + 1, (USERS,), generator=generator).tolist()
    history = ragged([(row[:n] + 1).tolist() for row, n in zip(walk, lengths, strict=True)])
    follow = torch.cat([row[1 : n + 1] for row, n in zip(walk, lengths, strict=True)])
    return Batch({"history": history}, window="history"), follow


@pytest.mark.parametrize(
    "encoder",
    [(Embedding, EmbeddingConfig()), (UnifiedEmbedding, UnifiedEmbeddingConfig(rows=200))],
    ids=["embedding", "unified_embedding"],
)
def test_a_causal_transformer_learns_what_comes_next(encoder):
    """The pace shows from the second item on; a window trained position by position serves whole histories afterwards."""
    model = make(encoder, part("trunk", "transformer", Transformer, TransformerConfig(layers=1, dropout=0.0)))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    generator = torch.Generator().manual_seed(0)
    for _ in range(150):
        batch, follow = windows(generator)
        logits = model(View(batch), "user").embedding @ model(View(CATALOGUE), "item").embedding.T / 0.1
        optimizer.zero_grad()
        F.cross_entropy(logits, follow).backward()
        optimizer.step()
    histories, expect = [], []
    for first in range(ITEMS):
        for pace in (1, 2):
            histories.append([(first + pace * t) % ITEMS + 1 for t in range(4)])
            expect.append((first + pace * 4) % ITEMS)
    users = model.encode(Batch({"history": ragged(histories)}), "user")
    found = (users @ model.encode(CATALOGUE, "item").T).argmax(1)
    assert (found == torch.tensor(expect)).float().mean() > 0.95


def test_a_mean_cannot_tell_what_order_does():
    """The same histories reversed: a mean gives equal vectors, so what the transformer learns above is the order."""
    model = make((Embedding, EmbeddingConfig()), part("trunk", "mean", Mean, MeanConfig()))
    there, back = (model.encode(Batch({"history": ragged([order])}), "user") for order in ([1, 2, 3], [3, 2, 1]))
    torch.testing.assert_close(there, back)
