"""A store of a few events in plain arrays, as much of it as evaluators use."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from embedkit.data.batch import Batch
from embedkit.data.columns import Column
from embedkit.schema import FieldSpec, Schema, Tower


class FakeQueries(SimpleNamespace):
    """Queries as the store makes them."""

    def __len__(self) -> int:
        return len(self.event)


@dataclass
class FakeStore:
    """Events sorted by user and order; ``split`` 0, 1, 2; one query for each event of the asked split that has a user."""

    user: np.ndarray
    item: np.ndarray
    split: np.ndarray
    items: int
    order: np.ndarray | None = None
    group: np.ndarray | None = None
    asked: list[tuple] = field(default_factory=list)

    def __post_init__(self) -> None:
        users = int(self.user.max()) + 1
        by_user = np.lexsort((np.arange(len(self.user)), self.order if self.order is not None else self.split, self.user))
        offsets = np.concatenate(([0], np.cumsum(np.bincount(self.user, minlength=users))))
        self.by_user, self.offsets = by_user, offsets
        held_back = by_user[self.split[by_user] == 0]  # the store keeps such a second block behind the first
        self.events = {
            "events": SimpleNamespace(
                joins={"items": self.item}, by_user=np.concatenate((by_user, held_back)), user=self.user, user_offsets=offsets,
                order=self.order, split=self.split,
            )
        }  # fmt: skip
        self.tables = {"items": SimpleNamespace(rows=self.items), "events": SimpleNamespace(rows=len(self.user))}
        fields = {
            "item_id": FieldSpec("item_id", "category", "items", "item_id", "item", "key"),
            "history": FieldSpec("history", "sequence", "events", None, "item"),
            "module": FieldSpec("module", "category", "events", "module", "module"),
        }
        towers = {"item": Tower("item", ("item_id",), "items"), "user": Tower("user", ("history",), "events")}
        self.schema = Schema(fields, towers, {"items": "item_id"})

    def frequencies(self, table: str) -> torch.Tensor:
        train = self.item[(self.split == 0) & (self.item >= 0)]
        return torch.from_numpy(np.bincount(train, minlength=self.items))

    def queries(self, events: str, target: str, split: str, max_queries: int | None = None, seed: int = 0) -> SimpleNamespace:
        self.asked.append((events, target, split, max_queries, seed))
        code = {"valid": 1, "test": 2}[split]
        held = np.flatnonzero(self.split == code)[:max_queries]
        start = self.offsets[self.user[held]]
        rank = np.empty(len(self.user), np.int64)
        rank[self.by_user] = np.arange(len(self.user))
        stop = rank[held] if self.order is not None else start + np.array([
            ((self.user == u) & (self.split < code)).sum() for u in self.user[held]
        ], dtype=np.int64)  # fmt: skip
        seen = [self.item[self.by_user[a:b]] for a, b in zip(start, stop, strict=True)]
        return FakeQueries(
            table=events, target=target, users=self.user[held], ids=[str(e) for e in held], event=held, start=start, stop=stop,
            targets=(self.item[held], np.arange(len(held) + 1)),
            seen=(np.concatenate([*seen, np.zeros(0, np.int64)]), np.cumsum([0, *map(len, seen)])),
        )  # fmt: skip

    def batch(self, rows: dict[str, torch.Tensor], fields: tuple[str, ...], *, limit: int = 0) -> Batch:
        if tuple(fields) == ("module",):
            return Batch({"module": Column(torch.from_numpy(self.group)[rows["events"]])}, rows)
        return Batch({"item_id": Column(rows["items"])}, rows)

    def query_batch(self, queries: SimpleNamespace, which: np.ndarray, fields: tuple[str, ...]) -> Batch:
        pieces = [self.item[self.by_user[a:b]] for a, b in zip(queries.start[which], queries.stop[which], strict=True)]
        offsets = np.concatenate(([0], np.cumsum([len(p) for p in pieces])))
        values = torch.from_numpy(np.concatenate([*pieces, np.zeros(0, np.int64)]))
        return Batch({"history": Column(values, torch.from_numpy(offsets))})


class FakeModel(torch.nn.Module):
    """One vector an item; a query is the mean of its history's vectors."""

    def __init__(self, items: int, dim: int = 8) -> None:
        super().__init__()
        self.dims = {"item": dim, "user": dim}
        self.table = torch.nn.Embedding(items, dim, _weight=torch.randn(items, dim, generator=torch.Generator().manual_seed(0)))

    @torch.inference_mode()
    def encode(self, batch: Batch, tower: str) -> torch.Tensor:
        if tower == "item":
            return F.normalize(self.table(batch.columns["item_id"].values), dim=-1)
        history = batch.columns["history"]
        known = history.values.clamp(min=0)
        return F.normalize(torch.nn.functional.embedding_bag(known, self.table.weight, history.offsets[:-1], mode="mean"), dim=-1)


@pytest.fixture
def make_store():
    """Build a store from (user, item, split) rows in order; ``ordered=False`` leaves the order out."""

    def make(rows, items, *, ordered=True, group=None, order=None):
        user, item, split = (np.array(x, dtype=np.int64) for x in zip(*rows, strict=True))
        order = np.asarray(order) if order is not None else np.arange(len(rows))
        return FakeStore(user, item, split, items, order if ordered else None, None if group is None else np.array(group))

    return make


@pytest.fixture
def make_model():
    """Build a model over the items."""
    return FakeModel
