from __future__ import annotations

import pytest
import torch

from embedkit.errors import UsageError
from embedkit.nn.trunk import TrunkContext
from embedkit.testing.conformance.trunk import TrunkConformance
from embedkit.testing.conformance.values import field, random_tokens
from embedkit_sequence.configs import GruConfig
from embedkit_sequence.gru import Gru

FIELDS = (field("country", "category"), field("history", "sequence"), field("age", "number"))
CONTEXT = TrunkContext("user", FIELDS, 8, {"country": 1, "history": 6, "age": 1})
ALONE = TrunkContext("user", FIELDS[1:2], 8, {"history": 6})


def make(context=CONTEXT, **options) -> Gru:
    torch.manual_seed(0)
    return Gru(GruConfig(**options), context=context).eval()


class TestGru(TrunkConformance):
    def trunk(self):
        return Gru(GruConfig(layers=2, hidden=12, dropout=0.3), context=CONTEXT)


class TestGruAlone(TrunkConformance):
    def trunk(self):
        return Gru(GruConfig(), context=ALONE)


def test_a_row_is_the_last_position_of_its_window():
    trunk = make()
    lengths = {"country": [1, 1, 1], "history": [6, 2, 4], "age": [1, 1, 1]}
    tokens = random_tokens(lengths, 8)
    window = trunk(tokens, window="history")[1]
    row = trunk(tokens)[1]
    for i, length in enumerate(lengths["history"]):
        torch.testing.assert_close(row[i], window[i, length - 1])


def test_what_is_known_besides_starts_the_state():
    trunk = make()
    tokens = random_tokens({"country": [1, 1], "history": [3, 3], "age": [1, 1]}, 8)
    before = trunk(tokens)[1]
    tokens.x[:, tokens.spans["country"]] += 1.0
    assert not torch.allclose(before, trunk(tokens)[1], atol=1e-5)


def test_a_tower_without_a_sequence_is_refused():
    with pytest.raises(UsageError, match="no field of type sequence"):
        make(TrunkContext("user", FIELDS[:1], 8, {"country": 1}))
