"""A tiny shop: items with text, brand and price, users' purchases, and an untrained bundle over them. For tests that
need all rooms.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from embedkit.bundle import Bundle, load_bundle, save_bundle
from embedkit.config.model import RunConfig
from embedkit.config.plan import Plan
from embedkit.config.resolve import resolve
from embedkit.data.store import Store
from embedkit.registry import Registry

COLOURS = ("red", "green", "blue", "black", "white")
THINGS = ("shirt", "hat", "lamp", "chair", "table", "cup", "scarf", "clock")


def write_tables(folder: Path, *, items: int = 300, users: int = 40, seed: int = 0, item_files: int = 2) -> None:
    """``items-<i>.parquet`` and ``events.parquet``; some brands, prices and titles are missing."""
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    titles = [f"{COLOURS[i % 5]} {THINGS[i % 8]} number {i}" if i % 17 else None for i in range(items)]
    brands = [f"brand-{int(random.integers(9))}" if i % 11 else None for i in range(items)]
    prices = [float(np.round(random.gamma(2, 10), 2)) if i % 13 else None for i in range(items)]
    ids = [f"item-{i}" for i in range(items)]
    table = pa.table({"item_id": ids, "title": titles, "brand": brands, "price": prices})
    step = -(-items // item_files)
    for number in range(item_files):
        pq.write_table(table.slice(number * step, step), folder / f"items-{number}.parquet")
    rows = users * 12
    bought = {
        "customer": [f"user-{i % users}" for i in range(rows)],
        "item_id": [f"item-{int(i)}" for i in random.integers(0, items, rows)],
        "day": list(range(rows)),
    }
    pq.write_table(pa.table(bought), folder / "events.parquet")


def run_config(**changes: Any) -> RunConfig:
    """The run file of the shop; ``changes`` replace top-level entries."""
    data: dict[str, Any] = {
        "format": 1,
        "name": "shop",
        "seed": 3,
        "tables": {
            "items": {"uri": "items-*.parquet", "key": "item_id"},
            "events": {"uri": "events.parquet", "join": {"item_id": "items"}, "user": "customer", "position": "day"},
        },
        "fields": {
            "item_id": {"table": "items", "type": "category", "domain": "item"},
            "title": {"table": "items", "type": "text"},
            "brand": {"table": "items", "type": "category"},
            "price": {"table": "items", "type": "number"},
            "history": {"table": "events", "type": "sequence", "domain": "item", "max_length": 8},
        },
        "towers": {"item": ["item_id", "title", "brand", "price"], "user": ["history"]},
        "model": {"dim": 16, "head": {"use": "matryoshka", "dims": [4, 8, 16]}},
        "index": {"use": "exact"},
    }
    return RunConfig.model_validate(data | changes)


def make_plan(folder: Path, registry: Registry, **changes: Any) -> Plan:
    """The shop's run file, resolved; the tables lie in ``folder``."""
    return resolve(run_config(**changes), registry, base=folder)


def make_bundle(folder: Path, registry: Registry, out: Path, *, seed: int = 0, **changes: Any) -> Bundle:
    """Fit codecs on the shop's tables, draw weights, save and load a bundle. Its vectors are arbitrary but repeatable."""
    import torch

    from embedkit.nn.model import Model

    plan = make_plan(folder, registry, **changes)
    codecs = Store.open(plan).fit()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Model(plan.model, codecs.stats)
        for parameter in model.parameters():
            if parameter.requires_grad:
                torch.nn.init.normal_(parameter, std=0.3)
    save_bundle(out, model=model, codecs=codecs, plan=plan, metrics={"recall@10": 0.25})
    return load_bundle(out, registry)
