"""A small plugin set without torch: option classes only, so that resolving is tested apart from what is registered for real."""

from __future__ import annotations

from typing import ClassVar

import pytest

from embedkit import hookimpl
from embedkit.component import Config
from embedkit.config.fields import FieldOptions
from embedkit.config.model import Scheduled, TrainConfig
from embedkit.config.references import TowerName, ViewName
from embedkit.host import Host
from embedkit.registry import Owner, Registry


class Category(FieldOptions):
    default_encoder = "embedding"
    min_count: int = 1


class Sequence(FieldOptions):
    default_encoder = "embedding"
    max_length: int = 50


class Number(FieldOptions):
    default_encoder = "number"
    scale: str = "linear"


class Embedding(Config):
    accepts: ClassVar[frozenset[str]] = frozenset({"category", "sequence"})
    rows: int | None = None


class Plain(Config):
    pass


class Mlp(Config):
    layers: int = 2


class Linear(Config):
    dim: int | None = None


class Softmax(Config):
    query: TowerName
    target: TowerName
    temperature: Scheduled = 0.05


class Contrast(Config):
    tower: TowerName
    views: tuple[ViewName, ViewName]


class Masking(Config):
    share: float = 0.5


class AdamW(Config):
    lr: Scheduled = 1e-3


class Retrieval(Config):
    query: TowerName
    target: TowerName
    k: list[int] = [10]


class Hnsw(Config):
    m: int = 16


class Fake:
    """Registers one of everything."""

    @hookimpl
    def register_field_types(self, register):
        register("category", object, config=Category)
        register("sequence", object, config=Sequence)
        register("number", object, config=Number)

    @hookimpl
    def register_encoders(self, register):
        register("embedding", object, config=Embedding)
        register("number", object, config=Plain)

    @hookimpl
    def register_trunks(self, register):
        register("mlp", object, config=Mlp)

    @hookimpl
    def register_heads(self, register):
        register("linear", object, config=Linear)

    @hookimpl
    def register_losses(self, register):
        register("sampled_softmax", object, config=Softmax)
        register("info_nce", object, config=Contrast)

    @hookimpl
    def register_augmentations(self, register):
        register("masking", object, config=Masking)

    @hookimpl
    def register_samplers(self, register):
        register("shuffle", object, config=Plain)

    @hookimpl
    def register_optimizers(self, register):
        register("adamw", object, config=AdamW)

    @hookimpl
    def register_stages(self, register):
        register("train", object, config=TrainConfig)

    @hookimpl
    def register_evaluators(self, register):
        register("retrieval", object, config=Retrieval)

    @hookimpl
    def register_indexes(self, register):
        register("hnsw", object, config=Hnsw)


RUN = """
format = 1
name = "shop"
seed = 7
[tables]
items = { uri = "items.parquet", key = "item_id" }
users = { uri = "users.parquet", key = "user_id" }
[tables.events]
uri = "events.parquet"
join = { item_id = "items", user_id = "users" }
user = "user_id"
time = "ts"
split = { by = "time", valid = "7d", test = "7d" }
[fields]
item_id = { table = "items", type = "category", domain = "item" }
price = { table = "items", type = "number" }
age = { table = "users", type = "number" }
history = { table = "events", type = "sequence", domain = "item", max_length = 20 }
[towers]
item = ["item_id", "price"]
user = ["history", "age"]
[[stages]]
use = "train"
epochs = 1
streams.main = { table = "events", rows = "events" }
streams.ssl = { table = "items", size = 64 }
views = [{ use = "masking", of = "ssl", makes = ["a", "b"] }]
losses = [
  { use = "sampled_softmax", query = "user", target = "item", temperature = { from = 0.1, to = 0.05 } },
  { use = "info_nce", tower = "item", views = ["a", "b"], weight = 0.2 },
]
[[evaluate]]
use = "retrieval"
query = "user"
target = "item"
"""


@pytest.fixture
def run_text() -> str:
    return RUN


@pytest.fixture
def registry() -> Registry:
    host = Host.load(discover=False)
    host.register(Fake(), Owner("fake", "fake-parts", "0.3"))
    return host.registry
