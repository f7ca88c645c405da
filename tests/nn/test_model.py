from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from embedkit.config.plan import ModelSpec
from embedkit.data.batch import Batch
from embedkit.data.codec import FieldStats
from embedkit.data.columns import Column
from embedkit.errors import DataError, UsageError
from embedkit.nn.model import Model
from embedkit.schema import Schema, Tower
from embedkit.testing.conformance.values import deterministic, field, gradients, part, ragged
from embedkit.views import View
from embedkit_sequence.configs import TransformerConfig
from embedkit_sequence.transformer import Transformer
from embedkit_tabular.configs import MeanConfig, MlpConfig, NumberEncoderConfig
from embedkit_tabular.encoders import NumberEncoder
from embedkit_tabular.trunks import Mean, Mlp
from embedkit_unified.configs import EmbeddingConfig, LinearConfig, MatryoshkaConfig
from embedkit_unified.embedding import Embedding
from embedkit_unified.heads import Linear, Matryoshka

FIELDS = {
    spec.name: spec
    for spec in (
        field("id", "category", domain="item"),
        field("price", "number"),
        field("tags", "categories"),
        field("age", "number", table="users"),
        field("history", "sequence", domain="item", table="users"),
    )
}
STATS = {
    "id": FieldStats(9, 0, size=6),
    "price": FieldStats(9, 0, quantiles=torch.tensor([-1.0, 0.0, 1.0])),
    "tags": FieldStats(9, 0, size=4),
    "age": FieldStats(9, 0, quantiles=torch.tensor([-1.0, 0.0, 1.0])),
    "history": FieldStats(9, 0, size=6, max_length=5),
}
# "items" is a method's name, "user.v2" has a dot: towers may be called either.
TOWERS = {"items": Tower("items", ("id", "price", "tags"), "items"), "user.v2": Tower("user.v2", ("age", "history"), "users")}
ENCODERS = (
    part("encoder", "number", NumberEncoder, NumberEncoderConfig(), ("price", "age")),
    part("encoder", "embedding", Embedding, EmbeddingConfig(), ("id", "tags")),
    part("encoder", "embedding", Embedding, EmbeddingConfig(), ("history",)),
)
SHARED = (ENCODERS[0], part("encoder", "embedding", Embedding, EmbeddingConfig(), ("id", "tags", "history")))
TRANSFORMER = part("trunk", "transformer", Transformer, TransformerConfig(dropout=0.0))


def make_spec(**changes) -> ModelSpec:
    spec = ModelSpec(
        schema=Schema(FIELDS, TOWERS, {"items": "id"}),
        field_types={},
        dim=8,
        encoders=SHARED,
        trunks={"items": part("trunk", "mlp", Mlp, MlpConfig()), "user.v2": TRANSFORMER},
        heads={
            "items": part("head", "matryoshka", Matryoshka, MatryoshkaConfig(dims=[2, 4])),
            "user.v2": part("head", "linear", Linear, LinearConfig(dim=4)),
        },
    )
    return replace(spec, **changes)


def make(*, sparse=False, stats=STATS, seed=0, **changes) -> Model:
    torch.manual_seed(seed)
    return Model(make_spec(**changes), stats, sparse=sparse)


def make_batch(window: str | None = None) -> Batch:
    columns = {
        "id": Column(torch.tensor([1, 2, 5])),
        "price": Column(torch.tensor([0.3, -2.0, 9.0]), None, torch.tensor([True, False, True])),
        "tags": ragged([[1, 2], [], [3]]),
        "age": Column(torch.tensor([0.1, 0.2, 0.3])),
        "history": ragged([[1, 2, 3], [4], [5, 1, 2, 3, 4]]),
    }
    return Batch(columns, window=window)


def test_each_tower_embeds_its_rows():
    model, view = make().eval(), View(make_batch())
    item, user = model(view, "items"), model(view, "user.v2")
    assert item.embedding.shape == user.embedding.shape == (3, 4)
    assert item.pooled.shape == user.pooled.shape == (3, 8)
    torch.testing.assert_close(item.embedding.norm(dim=-1), torch.ones(3))
    assert model.dims == {"items": 4, "user.v2": 4}
    assert model.prefixes == {"items": (2, 4), "user.v2": (4,)}
    assert list(item.tokens.spans) == ["id", "price", "tags"]
    assert list(user.tokens.spans) == ["age", "history"]


def test_prefixes_are_embeddings():
    outputs = make().eval()(View(make_batch()), "items")
    short = outputs.prefix(2)
    torch.testing.assert_close(short.embedding, torch.nn.functional.normalize(outputs.raw[:, :2], dim=-1))
    assert short.prefixes == (2,)
    assert outputs.prefix(4) is outputs
    with pytest.raises(UsageError, match="no prefix of 5"):
        outputs.prefix(5)


def test_tokens_come_in_the_order_of_the_tower_whichever_encoder_makes_them():
    """One encoder serves id and tags, another price between them; each token is what its encoder alone gives."""
    model, view = make().eval(), View(make_batch())
    tokens = model.tokens(view, model.spec.schema.tower_fields("items"))
    for name in ("id", "price", "tags"):
        alone = model.tokens(view, (FIELDS[name],))
        torch.testing.assert_close(tokens.select([name]).x, alone.x)


def test_a_domain_is_shared_by_the_towers_of_one_encoder():
    model = make()
    assert model.encoders["embedding"].table("item").shape == (6, 8)
    assert len(model.table_parameters()) == 2
    found = gradients(model, lambda: model(View(make_batch()), "user.v2").pooled.square().sum())
    assert found["encoders.embedding.table_item"].abs().sum() > 0
    assert found["encoders.embedding.table_tags"].abs().sum() == 0


def test_encoders_of_one_name_are_numbered():
    model = make(encoders=ENCODERS)
    assert list(model.encoders) == ["number", "embedding", "embedding_2"]
    assert len(model.table_parameters()) == 3


def test_windows_give_one_embedding_a_value():
    model = make().eval()
    outputs = model(View(make_batch("history")), "user.v2")
    assert outputs.embedding.shape == (9, 4)
    histories = [[1, 2, 3], [4], [5, 1, 2, 3, 4]]
    ages = [0.1, 0.2, 0.3]
    rows = [(age, history[: t + 1]) for age, history in zip(ages, histories, strict=True) for t in range(len(history))]
    one_by_one = Batch({"age": Column(torch.tensor([age for age, _ in rows])), "history": ragged([history for _, history in rows])})
    torch.testing.assert_close(outputs.embedding, model(View(one_by_one), "user.v2").embedding)


def test_a_window_of_another_tower_changes_nothing():
    model = make().eval()
    torch.testing.assert_close(model(View(make_batch("history")), "items").embedding, model(View(make_batch()), "items").embedding)


def test_hidden_values_of_a_window_keep_their_places():
    model = make().eval()
    hide = torch.tensor([False, True, False, False, True, False, False, False, False])
    outputs = model(View(make_batch("history"), hidden_values={"history": hide}), "user.v2")
    assert outputs.embedding.shape == (9, 4)
    with pytest.raises(UsageError, match="each value of a window has a target"):
        model(View(make_batch("history"), hidden_values={"history": hide}, fill="drop"), "user.v2")


def test_trunks_that_cannot_do_windows_say_so():
    trunks = {"items": part("trunk", "mlp", Mlp, MlpConfig()), "user.v2": part("trunk", "mlp", Mlp, MlpConfig())}
    with pytest.raises(UsageError, match=r"tower 'user.v2': its trunk.*cannot give a vector for each position of 'history'"):
        make(trunks=trunks)(View(make_batch("history")), "user.v2")
    mean = {**trunks, "user.v2": part("trunk", "mean", Mean, MeanConfig())}
    pooled = (SHARED[0], part("encoder", "embedding", Embedding, EmbeddingConfig(pool_sequences=True), ("id", "tags", "history")))
    with pytest.raises(UsageError, match="its encoder pools the values of a row"):
        make(trunks=mean, encoders=pooled)(View(make_batch("history")), "user.v2")


def test_a_view_may_restrict_the_fields():
    model = make().eval()
    outputs = model(View(make_batch(), fields=("tags", "age")), "items")
    assert list(outputs.tokens.spans) == ["tags"]
    with pytest.raises(UsageError, match="the view keeps none of its fields"):
        model(View(make_batch(), fields=("age",)), "items")


def test_hidden_fields_change_nothing():
    model = make().eval()
    other = make_batch()
    other = replace(other, columns={**other.columns, "tags": ragged([[3, 3], [2], []])})
    hidden = {"tags": torch.ones(3, dtype=torch.bool)}
    left, right = (model(View(b, hidden=hidden), "items").embedding for b in (make_batch(), other))
    assert torch.equal(left, right)
    assert not torch.allclose(left, model(View(make_batch()), "items").embedding)


def test_a_batch_without_a_field_is_refused():
    batch = make_batch()
    batch = replace(batch, columns={"id": batch.columns["id"], "price": batch.columns["price"]})
    with pytest.raises(DataError, match="tower 'items' reads field 'tags', which the batch lacks; it has id, price"):
        make()(View(batch), "items")


def test_unknown_towers_and_layers_are_refused():
    model, view = make(), View(make_batch())
    with pytest.raises(UsageError, match="there is no tower 'user': the model has items, user.v2"):
        model(view, "user")
    with pytest.raises(UsageError, match=r"layers \[3\] were asked for, its trunk shows 2"):
        model(view, "user.v2", layers=(3,))
    assert set(model(view, "user.v2", layers=(1, 2)).layers) == {1, 2}


def test_encoders_must_accept_and_serve_the_fields():
    wrong = (part("encoder", "number", NumberEncoder, NumberEncoderConfig(), ("price", "age", "tags")), ENCODERS[1])
    with pytest.raises(UsageError, match="encoder 'number' cannot encode field 'tags' of type categories: it accepts number"):
        make(encoders=wrong)
    with pytest.raises(UsageError, match=r"tower 'user.v2': no encoder serves field 'history'"):
        make(encoders=ENCODERS[:2])


def test_encode_needs_no_gradient_and_no_dropout():
    trunks = {"items": part("trunk", "mlp", Mlp, MlpConfig(dropout=0.5)), "user.v2": TRANSFORMER}
    model = make(trunks=trunks)
    first, second = model.encode(make_batch(), "items"), model.encode(make_batch(), "items")
    assert torch.equal(first, second)
    assert not first.requires_grad
    assert first.dtype == torch.float32
    assert model.training


def test_half_precision_gives_float32_of_unit_length():
    model = make().eval()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for tower in ("items", "user.v2"):
            outputs = model(View(make_batch()), tower)
            assert outputs.embedding.dtype == torch.float32
            torch.testing.assert_close(outputs.embedding.norm(dim=-1), torch.ones(3))
            outputs.embedding.sum().backward()


def test_one_seed_one_model_and_one_gradient():
    with deterministic():
        first, second = make(), make()
        assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))

        def loss(model):
            view = View(make_batch("history"))
            return model(view, "user.v2").embedding[:, 0].sum() + model(View(make_batch()), "items").embedding.square().sum()

        left, right = gradients(first, lambda: loss(first)), gradients(second, lambda: loss(second))
    assert all(torch.equal(left[name], right[name]) for name in left)


def test_the_state_makes_the_model():
    first, second = make(seed=0), make(seed=1)
    second.load_state_dict(first.state_dict())
    assert torch.equal(first.encode(make_batch(), "items"), second.encode(make_batch(), "items"))


def test_sparse_tables_have_sparse_gradients():
    model = make(sparse=True)
    model(View(make_batch()), "items").pooled.sum().backward()
    assert all(table.grad.is_sparse for table in model.table_parameters())


def test_an_empty_batch_gives_no_rows():
    model = make().eval()
    batch = make_batch()
    none = torch.zeros(0, dtype=torch.int64)
    empty = replace(batch, columns={name: column.take(none) for name, column in batch.columns.items()})
    assert model.encode(empty, "items").shape == (0, 4)
    assert model.encode(empty, "user.v2").shape == (0, 4)
