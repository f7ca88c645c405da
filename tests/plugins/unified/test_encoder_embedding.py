from __future__ import annotations

import pytest
import torch

from embedkit.data.codec import FieldStats
from embedkit.data.columns import Column
from embedkit.errors import UsageError
from embedkit.nn.encoder import EncoderContext
from embedkit.testing.conformance.encoder import EncoderConformance, encode, rows
from embedkit.testing.conformance.values import deterministic, field, gradients, ragged
from embedkit_unified.configs import EmbeddingConfig
from embedkit_unified.embedding import Embedding

FIELDS = (field("id", "category", domain="item"), field("genres", "categories"), field("history", "sequence", domain="item"))
STATS = {"id": FieldStats(9, 0, size=7), "genres": FieldStats(9, 0, size=4), "history": FieldStats(9, 0, size=7, max_length=5)}


def make(fields=FIELDS, stats=STATS, *, sparse=False, **options) -> Embedding:
    torch.manual_seed(0)
    return Embedding(EmbeddingConfig(**options), context=EncoderContext(fields, stats, dim=8, sparse=sparse)).eval()


def columns() -> dict[str, Column]:
    return {
        "id": Column(torch.tensor([0, 3, 6, 2, 2])),
        "genres": ragged([[1, 2], [0], [3], [1, 1, 3], [2]]),
        "history": ragged([[5, 6, 1], [2], [4, 4], [3, 0], [1, 2, 3, 4, 5]]),
    }


class TestEmbedding(EncoderConformance):
    def encoder(self):
        return Embedding(EmbeddingConfig(), context=EncoderContext(FIELDS, STATS, dim=8))

    def columns(self):
        return columns()


class TestPooledEmbedding(EncoderConformance):
    def encoder(self):
        return Embedding(EmbeddingConfig(pool_sequences=True), context=EncoderContext(FIELDS, STATS, dim=8))

    def columns(self):
        return columns()


class TestSparseEmbedding(EncoderConformance):
    def encoder(self):
        return Embedding(EmbeddingConfig(), context=EncoderContext(FIELDS, STATS, dim=8, sparse=True))

    def columns(self):
        return columns()


def test_a_domain_has_one_table():
    encoder = make()
    assert len(list(encoder.tables())) == 2
    tokens = encode(encoder, columns())
    history = tokens.select(["history"])
    torch.testing.assert_close(history.x[1, 0], encoder.table("item")[2])
    torch.testing.assert_close(tokens.select(["id"]).x[3, 0], encoder.table("item")[2])


def test_lists_are_averaged():
    encoder = make()
    table = encoder.table("genres")
    torch.testing.assert_close(encode(encoder, columns()).select(["genres"]).x[3, 0], (2 * table[1] + table[3]) / 3)
    pooled = make(pool_sequences=True)
    item = pooled.table("item")
    torch.testing.assert_close(encode(pooled, columns()).select(["history"]).x[0, 0], (item[5] + item[6] + item[1]) / 3)


def test_sequences_keep_their_order():
    encoder = make()
    item = encoder.table("item")
    row = rows(encode(encoder, columns()).select(["history"]))[4]
    torch.testing.assert_close(row, item[1:6])


def test_an_empty_list_has_a_learned_vector():
    encoder = make()
    empty = {"genres": ragged([[], [1]]), "history": ragged([[], [1]])}
    tokens = encode(encoder, empty)
    torch.testing.assert_close(tokens.select(["genres"]).x[0, 0], encoder.empty[1])
    torch.testing.assert_close(tokens.select(["history"]).x[0, 0], encoder.empty[2])
    missing = encode(encoder, {"genres": ragged([None, [1]])})
    torch.testing.assert_close(missing.x[0, 0], encoder.missing[1])


def test_the_unknown_row_starts_at_zero_and_learns():
    encoder = make()
    assert (encoder.table("item")[0] == 0).all()
    found = gradients(encoder, lambda: encode(encoder, {"id": Column(torch.tensor([0, 0]))}).x.sum())
    assert (found["table_item"][0] == 2).all()
    assert (found["table_item"][1:] == 0).all()


def test_unknown_dropout_is_for_training_only():
    encoder = make(unknown_dropout=0.5)
    column = {"id": Column(torch.full((2000,), 3))}
    zero = (encode(encoder.train(), column).x.squeeze(1) == 0).all(1)
    assert 0.4 < zero.float().mean() < 0.6
    assert not (encode(encoder.eval(), column).x == 0).any()


def test_sparse_gradients_equal_dense_ones():
    dense, sparse = make(), make(sparse=True)
    loss = [lambda e=e: encode(e, columns()).x.square().sum() for e in (dense, sparse)]
    left, right = gradients(dense, loss[0]), gradients(sparse, loss[1])
    assert sparse.table("item").grad.is_sparse
    for name in left:
        torch.testing.assert_close(left[name], right[name])


def test_many_threads_give_one_gradient():
    """Long lists with values that repeat, where threads could meet in one row (decision 18)."""
    stats = {"tags": FieldStats(9, 0, size=50), "history": FieldStats(9, 0, size=50, max_length=100)}
    fields = (field("tags", "categories"), field("history", "sequence"))
    encoder = make(fields, stats)
    generator = torch.Generator().manual_seed(1)
    lists = [torch.randint(0, 50, (int(n),), generator=generator).tolist() for n in torch.randint(1, 100, (200,), generator=generator)]
    both = {"tags": ragged(lists), "history": ragged(lists)}
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with deterministic():
            scale = torch.randn(8, generator=generator)
            found = [gradients(encoder, lambda: (encode(encoder, both).x * scale).square().sum()) for _ in range(6)]
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(found[0][name], other[name]) for other in found for name in other)


def test_domains_may_be_called_anything():
    fields = (field("a", "category", domain="keys"), field("b", "category", domain="a.b"), field("c", "category", domain="weight"))
    encoder = make(fields, {name: FieldStats(9, 0, size=3) for name in "abc"})
    assert len(list(encoder.tables())) == 3
    assert set(encoder.state_dict()) >= {"table_keys", "table_a%2Eb", "table_weight"}


def test_fields_of_a_domain_must_agree_on_its_size():
    with pytest.raises(UsageError, match="domain 'item'.*share one vocabulary"):
        make(stats={**STATS, "id": FieldStats(9, 0, size=6)})
