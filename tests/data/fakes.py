"""A plan and codecs small enough to read: what a store needs of them, without field types of plugins."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from embedkit.config.model import ComputeConfig, TableConfig
from embedkit.data.batch import Batch
from embedkit.data.columns import Column
from embedkit.data.store import Store
from embedkit.schema import FieldSpec, Schema


def category(name: str, table: str, **kw: Any) -> FieldSpec:
    return FieldSpec(name, "category", table, kw.pop("column", name), kw.pop("domain", name), kw.pop("role", "feature"), kw)


def number(name: str, table: str, **kw: Any) -> FieldSpec:
    return FieldSpec(name, "number", table, kw.pop("column", name), name, kw.pop("role", "feature"), kw)


def tags(name: str, table: str, **kw: Any) -> FieldSpec:
    return FieldSpec(name, "categories", table, name, kw.pop("domain", name), "feature", kw)


def history(name: str = "history", table: str = "events", domain: str = "item", **kw: Any) -> FieldSpec:
    return FieldSpec(name, "sequence", table, None, domain, "feature", kw)


class FakeCodecs:
    """Categories are numbered from 1 in order of first appearance in train, unseen ones are 0."""

    def __init__(self, specs: dict[str, FieldSpec]) -> None:
        self.specs = specs
        self.codes: dict[str, dict[Any, int]] = {}
        self.seen: dict[str, list[Any]] = {}

    def fit(self, source: Any) -> FakeCodecs:
        for spec in self.specs.values():
            values = [x for array in source(spec) for x in array.to_pylist()]
            self.seen[spec.name] = values
            codes = self.codes.setdefault(spec.domain, {})
            if spec.type != "number":
                for value in values:
                    for one in (value or []) if isinstance(value, list) or value is None else [value]:
                        codes.setdefault(one, len(codes) + 1)
        return self

    def encode(self, frame: pa.Table, fields: Any, *, path: str, first_row: int = 0) -> Batch:
        return Batch({name: self._column(self.specs[name], frame) for name in fields})

    def _column(self, spec: FieldSpec, frame: pa.Table) -> Column:
        values = frame.column(spec.column or spec.name).to_pylist()
        present = torch.tensor([v is not None for v in values])
        mask = None if bool(present.all()) else present
        codes = self.codes.get(spec.domain, {})
        if spec.type == "number":
            return Column(torch.tensor([float(v or 0) for v in values]), None, mask)
        if spec.type == "category":
            return Column(torch.tensor([codes.get(v, 0) for v in values], dtype=torch.int64), None, mask)
        lists = [[codes.get(x, 0) for x in v or []] for v in values]
        offsets = torch.from_numpy(np.cumsum([0, *map(len, lists)]))
        return Column(torch.tensor([x for v in lists for x in v], dtype=torch.int64), offsets, mask)


def open_store(
    folder: Path,
    tables: dict[str, tuple[dict[str, Any], dict[str, Any]]],
    fields: list[FieldSpec] = (),
    *,  # type: ignore[assignment]
    path: str = "memory",
    log: list[str] | None = None,
    row_group_size: int | None = None,
) -> Store:
    """Write tables (columns, configuration) as Parquet and open a store on them, with fitted fake codecs."""
    configs = {}
    for name, (columns, config) in tables.items():
        pq.write_table(pa.table(columns), folder / f"{name}.parquet", row_group_size=row_group_size)
        configs[name] = TableConfig(uri=f"{name}.parquet", **config)
    return _open(folder, configs, fields, path, log)


def open_prepared(folder: Path, tables: dict[str, dict[str, Any]], fields: list[FieldSpec]) -> Store:
    """Open a store on files that are there already."""
    return _open(folder, {name: TableConfig(**config) for name, config in tables.items()}, fields, "memory", None)


def _open(folder: Path, configs: dict[str, TableConfig], fields: list[FieldSpec], path: str, log: list[str] | None) -> Store:
    specs = {spec.name: spec for spec in fields}
    schema = Schema(specs, {}, {name: c.key for name, c in configs.items() if c.key})
    options = {name: SimpleNamespace(config=SimpleNamespace(**spec.options)) for name, spec in specs.items()}
    config = SimpleNamespace(tables=configs, compute=ComputeConfig(data_path=path))
    plan: Any = SimpleNamespace(config=config, base=folder, schema=schema, model=SimpleNamespace(field_types=options, schema=schema))
    store = Store.open(plan, log=log.append if log is not None else lambda line: None)
    store.use(FakeCodecs(specs).fit(store.train_values))  # type: ignore[arg-type]
    return store
