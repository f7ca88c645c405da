"""Catalogue: all rows of the tables that towers embed, encoded and on the device, for losses and encoders that look at all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from embedkit.views import View

if TYPE_CHECKING:
    from embedkit.data.store import Store


class Catalogue:
    """Tower → a view of all rows of its table: the tower's fields and the table's key. Made when it is first asked for, then kept."""

    def __init__(self, store: Store, device: torch.device) -> None:
        self._store, self._device = store, device
        self._views: dict[str, View] = {}

    def __call__(self, tower: str) -> View:
        """The view of a tower."""
        if tower not in self._views:
            schema = self._store.schema
            table = schema.towers[tower].table
            keys = [spec.name for spec in schema.of_table(table) if spec.role == "key"]
            fields = list(dict.fromkeys([*schema.towers[tower].fields, *keys]))
            rows = {table: torch.arange(self._store.tables[table].rows)}
            self._views[tower] = View(self._store.batch(rows, fields).to(self._device))
        return self._views[tower]
