"""Raw values to unit vectors with the first-party field types: what one room calls a column the other must read."""

from __future__ import annotations

import datetime

import pyarrow as pa
import pytest
import torch

import embedkit_sequence
import embedkit_tabular
import embedkit_text
import embedkit_unified
from embedkit.config.plan import EncoderPart, ModelSpec, Part
from embedkit.data.codecs import Codecs
from embedkit.nn.model import Model
from embedkit.schema import FieldSpec, Schema, Tower
from embedkit.testing import host_with
from embedkit.views import View

TYPES = {"id": "category", "tags": "categories", "price": "number", "listed": "timestamp", "title": "text", "seen": "sequence"}
ENCODERS = {
    "embedding": ("id", "tags", "seen"),
    "number": ("price",),
    "timestamp": ("listed",),
    "hashed_text": ("title",),
}
ROWS = 40
TRAIN = pa.table(
    {
        "id": [f"i{n}" for n in range(ROWS)],
        "tags": [["new", "red"][: n % 3] for n in range(ROWS)],
        "price": [float(n**2) for n in range(ROWS)],
        "listed": [datetime.datetime(2024, 1, 1) + datetime.timedelta(days=n) for n in range(ROWS)],
        "title": [f"a small thing number {n}" for n in range(ROWS)],
        "seen": [[f"i{k}" for k in range(n % 5)] for n in range(ROWS)],
    }
)
ODD = pa.table(
    {
        "id": pa.array(["i3", "never seen", None]),
        "tags": pa.array([[], ["blue"], None], pa.list_(pa.string())),
        "price": pa.array([float("nan"), 1e30, None]),
        "listed": pa.array([None, datetime.datetime(1950, 1, 1), None], pa.timestamp("us")),
        "title": pa.array(["", "völlig anders", None]),
        "seen": pa.array([[], ["never seen"] * 100, None], pa.list_(pa.string())),
    }
)


@pytest.fixture(scope="module", params=["mlp", "mean", "attention", "transformer", "resnet", "feature_transformer"])
def built(request) -> tuple[Model, Codecs]:
    plugins = {"sequence": embedkit_sequence, "tabular": embedkit_tabular, "text": embedkit_text, "unified": embedkit_unified}
    registry = host_with(plugins).registry

    def part(kind: str, name: str, **options) -> Part:
        entry = registry.entry(kind, name)
        return Part(entry, entry.parse(options, where="model"))

    domains = {"id": "item", "seen": "item"}
    fields = {name: FieldSpec(name, type, "items", name, domains.get(name, name)) for name, type in TYPES.items()}
    encoders = []
    for name, served in ENCODERS.items():
        one = part("encoder", name)
        encoders.append(EncoderPart(one.entry, one.config, served))
    spec = ModelSpec(
        schema=Schema(fields, {"item": Tower("item", tuple(TYPES), "items")}, {}),
        field_types={name: part("field_type", type) for name, type in TYPES.items()},
        dim=16,
        encoders=tuple(encoders),
        trunks={"item": part("trunk", request.param)},
        heads={"item": part("head", "matryoshka", dims=[4, 8])},
    )
    codecs = Codecs.create(spec)
    codecs.fit(lambda field: iter([TRAIN.column(field.name).combine_chunks()]))
    torch.manual_seed(0)
    return Model(spec, codecs.stats).eval(), codecs


def test_train_rows_become_distinct_unit_vectors(built):
    model, codecs = built
    vectors = model.encode(codecs.encode(TRAIN, tuple(TYPES), path="items"), "item")
    assert vectors.shape == (ROWS, 8)
    torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(ROWS))
    assert torch.unique(vectors, dim=0).shape[0] == ROWS


def test_empty_unseen_and_missing_values_are_embedded_too(built):
    model, codecs = built
    vectors = model.encode(codecs.encode(ODD, tuple(TYPES), path="items"), "item")
    assert vectors.isfinite().all()
    torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(3))


def test_a_row_alone_has_the_same_vector(built):
    model, codecs = built
    whole = model.encode(codecs.encode(TRAIN, tuple(TYPES), path="items"), "item")
    alone = model.encode(codecs.encode(TRAIN.slice(7, 1), tuple(TYPES), path="items"), "item")
    torch.testing.assert_close(alone[0], whole[7], atol=1e-5, rtol=1e-5)


def test_every_parameter_learns(built):
    model, codecs = built
    frame = pa.concat_tables([TRAIN, ODD.cast(TRAIN.schema)])
    batch = codecs.encode(frame, tuple(TYPES), path="items")
    hide = torch.arange(len(frame)) % 4 == 1
    view = View(batch, hidden=dict.fromkeys(TYPES, hide))
    model.zero_grad()
    scale = torch.randn(len(frame), 8, generator=torch.Generator().manual_seed(0))
    (model(view, "item").embedding * scale).sum().backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all() or (p.grad == 0).all()]
    assert silent == []
