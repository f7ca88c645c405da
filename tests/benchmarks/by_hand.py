"""A train loop as one would write it by hand for one model: its own gathers from plain tensors, its own loss, its own updates.

It calls the towers of embedkit's ``Model``, so that both sides compute the same function; nothing else of embedkit takes part.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from embedkit.data.batch import Batch
from embedkit.data.columns import Column
from embedkit.data.store import Store
from embedkit.nn.model import Model
from embedkit.views import View

LOG_EVERY = 50


class Gather:
    """Batches of event rows, or of users' windows, from tensors that are held in memory."""

    def __init__(self, store: Store, events: str, query: list[str], target: list[str], rows: np.ndarray, order: list[np.ndarray]) -> None:
        known = store.events[events]
        self.order = order
        self.at = 0
        self.tables = {name: store.columns(name) for name in store.tables if name != events}
        self.joins = {name: torch.from_numpy(known.joins[name].astype(np.int64)) for name in known.joins}
        self.query = {f: store.schema.fields[f].table for f in query if not store.is_history(f)}
        self.target = {f: store.schema.fields[f].table for f in target}
        self.items = store.schema.fields[target[0]].table
        (self.history,) = (f for f in query if store.is_history(f))
        self.length = store.schema.fields[self.history].options["max_length"]
        by_user = torch.from_numpy(known.by_user.astype(np.int64))
        self.row_of = self.joins[self.items][by_user]
        key = next(f for f in target if store.schema.fields[f].role == "key")
        self.code_of = self.tables[self.items][key].values.long()[self.row_of]
        start, stop = (torch.from_numpy(x) for x in known.history(rows, 0))
        place = torch.full((known.rows,), -1)
        place[torch.from_numpy(rows)] = torch.arange(len(rows))
        self.place, self.start, self.stop = place, torch.maximum(start, stop - self.length), stop

    def __call__(self) -> Batch:
        rows = torch.from_numpy(self.order[self.at])
        self.at = (self.at + 1) % len(self.order)
        return self.events(rows)

    def events(self, rows: Tensor) -> Batch:
        """One target a row: histories before it, and fields of what the event joins."""
        place = self.place[rows]
        index, offsets = ranges(self.start[place], self.stop[place])
        columns = {self.history: Column(self.code_of[index], offsets)}
        joined = {name: self.joins[name][rows] for name in self.joins}
        for field, table in {**self.query, **self.target}.items():
            columns[field] = pick(self.tables[table][field], joined[table])
        return Batch(columns, joined)


class WindowGather(Gather):
    """All positions of a user's train events; ``order`` holds user numbers."""

    def prepare(self, store: Store, events: str) -> None:
        known = store.events[events]
        offsets = torch.from_numpy(known.user_offsets)
        train = torch.from_numpy(known.split[known.by_user[: int(offsets[-1])]] == 0)
        ends = torch.cat([torch.zeros(1, dtype=torch.int64), train.cumsum(0)])
        self.first = offsets[:-1]
        self.last = self.first + ends[offsets[1:]] - ends[offsets[:-1]]

    def events(self, rows: Tensor) -> Batch:
        start, stop = self.first[rows], self.last[rows]
        start = torch.maximum(start, stop - self.length - 1)
        index, offsets = ranges(start, stop - 1)
        targets = self.row_of[index + 1]
        columns = {self.history: Column(self.code_of[index], offsets)}
        for field, table in self.target.items():
            columns[field] = pick(self.tables[table][field], targets)
        return Batch(columns, {self.items: targets}, window=self.history)


def ranges(start: Tensor, stop: Tensor) -> tuple[Tensor, Tensor]:
    """Positions of the ranges one after the other, and where each begins."""
    length = stop - start
    offsets = F.pad(length.cumsum(0), (1, 0))
    return torch.arange(int(offsets[-1])) + torch.repeat_interleave(start - offsets[:-1], length), offsets


def pick(column: Column, rows: Tensor) -> Column:
    """Rows of a column."""
    present = None if column.present is None else column.present[rows]
    if column.offsets is None:
        return Column(column.values[rows], None, present)
    index, offsets = ranges(column.offsets[rows], column.offsets[rows + 1])
    return Column(column.values[index], offsets, present)


class Loop:
    """Forward of both towers, in-batch softmax with logQ and hit masking over every prefix, backward, clip, AdamW, zero_grad."""

    def __init__(self, model: Model, gather: Gather, share: Tensor, temperature: float, lr: float) -> None:
        self.model, self.gather, self.share, self.temperature = model.train(), gather, share, temperature
        tables = {id(p) for p in model.table_parameters()}
        self.parameters = list(model.parameters())
        decayed = [p for p in self.parameters if p.dim() >= 2 and id(p) not in tables]
        rest = [p for p in self.parameters if p.dim() < 2 or id(p) in tables]
        groups = [{"params": decayed, "weight_decay": 0.01}, {"params": rest, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=lr, fused=True)
        self.step = 0
        self.losses: list[float] = []

    def loss(self, batch: Batch) -> Tensor:
        view = View(batch)
        query, target = self.model(view, "user"), self.model(view, "item")
        rows = batch.rows[self.gather.items]
        hits = (rows == rows.unsqueeze(1)).fill_diagonal_(False)
        correction = -(self.share[rows] * len(rows)).log()
        label = torch.arange(len(rows))
        losses = []
        for width in query.prefixes:
            q, t = F.normalize(query.raw[:, :width], dim=1), F.normalize(target.raw[:, :width], dim=1)
            logits = torch.addmm(correction, q, t.T, alpha=1 / self.temperature).masked_fill_(hits, -torch.inf)
            losses.append(F.cross_entropy(logits, label))
        return torch.stack(losses).mean()

    def __call__(self, steps: int) -> None:
        for _ in range(steps):
            loss = self.loss(self.gather())
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            self.step += 1
            if self.step % LOG_EVERY == 0:
                self.losses.append(loss.item())
