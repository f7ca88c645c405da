from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch

from embedkit.config.plan import ModelSpec
from embedkit.data.batch import Batch
from embedkit.data.codec import FieldStats
from embedkit.data.columns import Column
from embedkit.data.vocabulary import Vocabulary
from embedkit.errors import UsageError
from embedkit.nn.model import Model
from embedkit.nn.warm import old_codes, warm_start
from embedkit.schema import Schema, Tower
from embedkit.testing.conformance.values import field, part
from embedkit_tabular.configs import MlpConfig
from embedkit_tabular.trunks import Mlp
from embedkit_unified.configs import EmbeddingConfig, LinearConfig, UnifiedEmbeddingConfig
from embedkit_unified.embedding import Embedding
from embedkit_unified.heads import Linear
from embedkit_unified.unified import UnifiedEmbedding

OLD = Vocabulary(pa.array(["a", "b", "c"]), np.array([3, 2, 1]))
NEW = Vocabulary(pa.array(["c", "d", "a", "b"]), np.array([3, 2, 1, 1]))


def make(vocabulary: Vocabulary, *, hidden=16, hashed=False, seed=0) -> Model:
    torch.manual_seed(seed)
    spec = field("id", "category", domain="item")
    encoder = (
        part("encoder", "unified_embedding", UnifiedEmbedding, UnifiedEmbeddingConfig(rows=64), ("id",))
        if hashed
        else part("encoder", "embedding", Embedding, EmbeddingConfig(), ("id",))
    )
    return Model(
        ModelSpec(
            schema=Schema({"id": spec}, {"item": Tower("item", ("id",), "items")}, {}),
            field_types={},
            dim=8,
            encoders=(encoder,),
            trunks={"item": part("trunk", "mlp", Mlp, MlpConfig(hidden=[hidden]))},
            heads={"item": part("head", "linear", Linear, LinearConfig())},
        ),
        {"id": FieldStats(9, 0, size=vocabulary.size)},
    )


def embed(model: Model, vocabulary: Vocabulary, values: list[str]) -> torch.Tensor:
    return model.encode(Batch({"id": Column(torch.from_numpy(vocabulary.encode(pa.array(values))))}), "item")


def test_codes_are_found_by_value():
    assert old_codes(OLD, NEW).tolist() == [0, 3, -1, 1, 2]
    assert old_codes(OLD, OLD).tolist() == [0, 1, 2, 3]


def test_known_values_keep_their_vectors():
    old, new = make(OLD), make(NEW, seed=1)
    fresh = new.encoders["embedding"].table("item")[2].detach().clone()
    warm_start(new, old.state_dict(), {"item": old_codes(OLD, NEW)})
    values = ["a", "b", "c", "never seen"]
    assert torch.equal(embed(old, OLD, values), embed(new, NEW, values))
    assert torch.equal(new.encoders["embedding"].table("item")[2], fresh)


def test_hashed_tables_stay_as_they_are():
    """Growth appends to a vocabulary, so codes keep their hashes."""
    grown = Vocabulary(pa.array(["a", "b", "c", "d"]), np.array([3, 2, 1, 1]))
    old, new = make(OLD, hashed=True), make(grown, hashed=True, seed=1)
    warm_start(new, old.state_dict(), {"item": old_codes(OLD, grown)})
    assert torch.equal(embed(old, OLD, ["a", "b", "c"]), embed(new, grown, ["a", "b", "c"]))


def test_other_differences_are_refused():
    old, new = make(OLD), make(NEW, hidden=32)
    before = {name: value.clone() for name, value in new.state_dict().items()}
    with pytest.raises(UsageError, match=r"'trunks.item.layers.0.bias' is of shape \[16\] there and of shape \[32\] here"):
        warm_start(new, old.state_dict(), {"item": old_codes(OLD, NEW)})
    assert all(torch.equal(before[name], value) for name, value in new.state_dict().items())
    with pytest.raises(UsageError, match="absent there"):
        warm_start(make(OLD), make(OLD, hashed=True).state_dict(), {})
