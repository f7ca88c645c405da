"""A small model over rows of two categories and two numbers, for tests of losses that learn without labels."""

from __future__ import annotations

from types import SimpleNamespace

import torch

from embedkit.config.plan import ModelSpec
from embedkit.data.batch import Batch
from embedkit.data.codec import FieldStats
from embedkit.data.columns import Column
from embedkit.nn.model import Model
from embedkit.schema import Schema, Tower
from embedkit.testing.conformance.values import field, part
from embedkit.training.loss import LossContext
from embedkit.views import AugmentationContext, View
from embedkit_tabular.configs import FeatureTransformerConfig, NumberEncoderConfig
from embedkit_tabular.encoders import NumberEncoder
from embedkit_tabular.feature_transformer import FeatureTransformer
from embedkit_unified.configs import EmbeddingConfig, LinearConfig
from embedkit_unified.embedding import Embedding
from embedkit_unified.heads import Linear

NAMES = ("brand", "colour", "price", "size")
SPECS = tuple(field(name, kind, table="rows") for name, kind in zip(NAMES, ["category"] * 2 + ["number"] * 2, strict=True))
SCHEMA = Schema({spec.name: spec for spec in SPECS}, {"row": Tower("row", NAMES, "rows")}, {})
EDGES = torch.linspace(-2, 2, 9)
STATS = {
    "brand": FieldStats(99, 0, size=5),
    "colour": FieldStats(99, 0, size=4),
    "price": FieldStats(99, 9, quantiles=EDGES),
    "size": FieldStats(99, 0, quantiles=EDGES),
}
CODECS = {name: SimpleNamespace(stats=stats) for name, stats in STATS.items()}  # all that a loss asks of a fitted codec here
DIM = 8


def model(seed: int = 0, **trunk) -> Model:
    """A feature_transformer over embeddings and piecewise-linear numbers, its features side by side."""
    torch.manual_seed(seed)
    options = FeatureTransformerConfig(**{"layers": 2, "heads": 2, "pooling": "flatten", "init_std": 0.3} | trunk)
    encoders = (
        part("encoder", "embedding", Embedding, EmbeddingConfig(init_std=0.3), NAMES[:2]),
        part("encoder", "number", NumberEncoder, NumberEncoderConfig(), NAMES[2:]),
    )
    trunks = {"row": part("trunk", "feature_transformer", FeatureTransformer, options)}
    heads = {"row": part("head", "linear", Linear, LinearConfig(identity=True, normalize=False))}
    return Model(ModelSpec(SCHEMA, {}, DIM, encoders, trunks, heads, 0), STATS)


def batch(rows: int = 12, seed: int = 0) -> Batch:
    """Random rows; every fourth price is missing."""
    draw = torch.Generator().manual_seed(seed)
    return Batch(
        {
            "brand": Column(torch.randint(1, 5, (rows,), generator=draw)),
            "colour": Column(torch.randint(1, 4, (rows,), generator=draw)),
            "price": Column(torch.randn(rows, generator=draw), None, torch.arange(rows) % 4 != 0),
            "size": Column(torch.randn(rows, generator=draw)),
        },
        {"rows": torch.arange(rows)},
    )


def changed(before: Batch, cells: dict[str, torch.Tensor]) -> Batch:
    """The batch with other values in these cells (field → bool [B])."""
    columns = dict(before.columns)
    for name, mask in cells.items():
        column = columns[name]
        other = column.values % 3 + 1 if name in NAMES[:2] else -3.0 * column.values - 1.0
        columns[name] = Column(torch.where(mask, other, column.values), None, column.present)
    return Batch(columns, before.rows)


def loss_context(views: tuple[str, ...] = ("main", "seen")) -> LossContext:
    """What a loss over these rows is built from."""
    return LossContext(SCHEMA, {"row": DIM}, DIM, views, lambda table: torch.ones(99), {"rows": 99}, codecs=CODECS)


def masks_context() -> AugmentationContext:
    """What an augmentation of these rows is built from."""

    def none(names):
        raise AssertionError("no masking of rows asks for mutual information")

    return AugmentationContext(SCHEMA, "rows", NAMES, 1, none)


def view(rows: int = 12, seed: int = 0) -> View:
    """The untouched view of such a batch."""
    return View(batch(rows, seed))
