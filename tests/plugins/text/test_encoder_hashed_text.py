from __future__ import annotations

import torch

from embedkit.data.codec import FieldStats
from embedkit.nn.encoder import EncoderContext
from embedkit.testing.conformance.encoder import EncoderConformance, encode
from embedkit.testing.conformance.values import deterministic, field, gradients, ragged
from embedkit_text.configs import HashedTextConfig
from embedkit_text.hashed import HashedText

FIELDS = (field("title", "text"), field("body", "text"))
IDF = torch.tensor([1.0, 2.0, 0.5, 4.0, 1.5, 3.0, 0.25])
STATS = {"title": FieldStats(9, 0, extras={"idf": IDF}), "body": FieldStats(9, 0)}
ROWS = [[3, -8, 2**62], [14], [5, 5, 9], [1, 100], [-(2**63), 7]]


def make(*, sparse=False, **options) -> HashedText:
    torch.manual_seed(0)
    config = HashedTextConfig(buckets=options.pop("buckets", 16), **options)
    return HashedText(config, context=EncoderContext(FIELDS, STATS, dim=8, sparse=sparse)).eval()


class TestHashedText(EncoderConformance):
    def encoder(self):
        return HashedText(HashedTextConfig(buckets=16), context=EncoderContext(FIELDS, STATS, dim=8))

    def columns(self):
        return {"title": ragged(ROWS), "body": ragged(ROWS[::-1])}


class TestSparseHashedText(TestHashedText):
    def encoder(self):
        return HashedText(HashedTextConfig(buckets=16), context=EncoderContext(FIELDS, STATS, dim=8, sparse=True))


def test_a_text_is_the_weighted_mean_of_its_words():
    encoder = make()
    x = encode(encoder, {"title": ragged([[3, 8, 20]])}).x[0, 0]
    weights = torch.stack([IDF[3], IDF[1], IDF[6]])
    rows = torch.stack([encoder.weight[3], encoder.weight[8], encoder.weight[4]])
    torch.testing.assert_close(x, (weights.unsqueeze(1) * rows).sum(0) / weights.sum())


def test_without_weights_words_count_the_same():
    for encoder, name in ((make(weighted=False), "title"), (make(), "body")):
        x = encode(encoder, {name: ragged([[3, 8, 20]])}).x[0, 0]
        torch.testing.assert_close(x, (encoder.weight[3] + encoder.weight[8] + encoder.weight[4]) / 3)


def test_fields_share_the_table():
    encoder = make(weighted=False)
    tokens = encode(encoder, {"title": ragged([[3, 8]]), "body": ragged([[8, 3]])})
    torch.testing.assert_close(tokens.x[0, 0], tokens.x[0, 1])
    assert len(list(encoder.tables())) == 1


def test_a_text_without_words_has_a_learned_vector():
    encoder = make()
    tokens = encode(encoder, {"title": ragged([[], None, [3]])})
    torch.testing.assert_close(tokens.x[0, 0], encoder.empty[0])
    torch.testing.assert_close(tokens.x[1, 0], encoder.missing[0])


def test_words_that_training_never_saw_do_not_count():
    known = FieldStats(9, 0, extras={"idf": torch.tensor([0.0, 1.0])})
    encoder = HashedText(HashedTextConfig(buckets=16), context=EncoderContext(FIELDS[:1], {"title": known}, dim=8))
    tokens = encode(encoder, {"title": ragged([[3, 2, 4], [2, 4]])})
    torch.testing.assert_close(tokens.x[0, 0], encoder.weight[3])
    torch.testing.assert_close(tokens.x[1, 0], encoder.empty[0])


def test_negative_hashes_have_their_bucket():
    encoder = make(weighted=False)
    torch.testing.assert_close(encode(encoder, {"title": ragged([[-1]])}).x[0, 0], encoder.weight[15])


def test_many_threads_give_one_gradient():
    encoder = make(buckets=64)
    generator = torch.Generator().manual_seed(1)
    texts = [torch.randint(-(2**60), 2**60, (1 + i % 90,), generator=generator).tolist() for i in range(200)]
    columns = {"title": ragged(texts)}
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with deterministic():
            found = [gradients(encoder, lambda: encode(encoder, columns).x.square().sum()) for _ in range(5)]
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(found[0][name], other[name]) for other in found for name in other)
