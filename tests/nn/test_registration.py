from __future__ import annotations

import pytest

import embedkit_sequence
import embedkit_tabular
import embedkit_text
import embedkit_unified
from embedkit.nn.encoder import Encoder
from embedkit.nn.head import Head
from embedkit.nn.trunk import Trunk
from embedkit.testing import host_with

NAMES = {
    "encoder": {"embedding", "hashed_text", "number", "timestamp", "unified_embedding"},
    "trunk": {"attention", "cross", "feature_transformer", "gru", "mean", "mlp", "resnet", "transformer"},
    "head": {"linear", "matryoshka", "mlp", "resnet"},
}
BASES = {"encoder": Encoder, "trunk": Trunk, "head": Head}


@pytest.mark.parametrize("kind", NAMES)
def test_every_part_of_a_model_can_be_found_by_name(kind):
    plugins = {"sequence": embedkit_sequence, "tabular": embedkit_tabular, "text": embedkit_text, "unified": embedkit_unified}
    registry = host_with(plugins).registry
    assert {entry.name for entry in registry.entries(kind)} == NAMES[kind]
    for entry in registry.entries(kind):
        assert issubclass(entry.load(), BASES[kind])
        options = {"dims": [2, 4]} if entry.name == "matryoshka" else {}
        config = entry.parse(options, where="model")
        assert all(field.description for field in type(config).model_fields.values()), "every option is described"
        assert entry.summary
