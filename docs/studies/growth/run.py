"""Memory and time of each step as the catalogue grows: generate, train, embed, index, search.

    python docs/studies/growth/run.py transactions.parquet --out study --items 10_000 100_000 1_000_000

``transactions.parquet`` is the prepared copy of online_retail: how often items are bought, how much users buy, and the words of the
descriptions are drawn from it. Every step is a process of its own, measured from outside. A size that is in ``results.json`` already is not
repeated. Writes ``results.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import tomli_w

from embedkit.errors import told
from embedkit.files import atomic_write

BLOCK = 100_000
EVENTS_AN_ITEM = 5
STEPS = ("train", "embed", "index", "search")


def measured(command: list[str], told: Path = Path(os.devnull)) -> dict[str, float]:
    """Seconds and peak resident memory (MiB) of a command that must end well; what it prints goes to ``told``."""
    start = time.perf_counter()
    with told.open("w") as file:
        process = subprocess.Popen(command, stdout=file)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return {"seconds": round(time.perf_counter() - start, 1), "peak": round(usage.ru_maxrss / 2**10)}


def draw_tables(source: Path, items: int, folder: Path) -> None:
    """``items.parquet`` and ``events.parquet``, block by block: popularity, purchases a user and words as in the source."""
    random = np.random.default_rng(0)
    sales = pl.read_parquet(source).filter(pl.col("customer_id").is_not_null() & (pl.col("quantity") > 0))
    popularity = np.sort(sales.group_by("stock_code").len()["len"].to_numpy())[::-1].astype(np.float64)
    each = sales.group_by("customer_id").len()["len"].to_numpy().astype(np.int64)
    words = sales["description"].drop_nulls().str.split(" ").explode().drop_nulls().to_numpy()
    prices = sales["unit_price"].to_numpy()
    writer: pq.ParquetWriter | None = None
    for start in range(0, items, BLOCK):
        count = min(BLOCK, items - start)
        drawn = words[random.integers(0, len(words), (4, count))]
        block = pa.table(
            {
                "item_id": pa.array(np.arange(start, start + count)),
                "description": pa.array([" ".join(row) for row in drawn.T.tolist()]),
                "unit_price": random.choice(prices, count),
            }
        )
        writer = writer or pq.ParquetWriter(folder / "items.parquet", block.schema)
        writer.write_table(block)
    assert writer is not None
    writer.close()
    # The popularity curve of the source, stretched over as many items as there are.
    chances = np.interp(np.linspace(0, 1, items), np.linspace(0, 1, len(popularity)), popularity)
    up_to = np.cumsum(chances / chances.sum())
    users = max(1, items * EVENTS_AN_ITEM // int(each.mean()))
    lengths = random.choice(each, users)
    user = np.repeat(np.arange(users), lengths)
    position = np.arange(len(user)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    item = np.minimum(np.searchsorted(up_to, random.random(len(user))), items - 1)
    pl.DataFrame({"user": user, "position": position, "item_id": item}).write_parquet(folder / "events.parquet", row_group_size=BLOCK)


def run_file(steps: int) -> dict[str, Any]:
    """Two towers over hashed tables; a fixed number of steps, so that only what depends on the catalogue grows."""
    return {
        "format": 1,
        "name": "growth",
        "tables": {
            "items": {"uri": "items.parquet", "key": "item_id"},
            "events": {"uri": "events.parquet", "join": {"item_id": "items"}, "user": "user", "position": "position"},
        },
        "fields": {
            "item_id": {"table": "items", "type": "category", "domain": "item"},
            "description": {"table": "items", "type": "text", "max_tokens": 8, "ngrams": []},
            "unit_price": {"table": "items", "type": "number", "scale": "log"},
            "history": {"table": "events", "type": "sequence", "domain": "item", "max_length": 50},
        },
        "towers": {"item": ["item_id", "description", "unit_price"], "user": ["history"]},
        "model": {
            "dim": 32,
            "encoders": [{"use": "embedding", "fields": ["item_id", "history"], "pool_sequences": True}],
            "trunk": {"use": "mlp", "hidden": [64]},
        },
        "stages": [
            {
                "use": "train",
                "steps": steps,
                "streams": {
                    "main": {"table": "events", "rows": "events", "size": 1024},
                    "others": {"table": "items", "sampler": "uniform", "size": 512},
                },
                "losses": [{"use": "sampled_softmax", "query": "user", "target": "item", "negatives": "others", "temperature": 0.1}],
                "table_optimizer": {"use": "rowwise_adagrad"},
            }
        ],
        "compute": {"device": "cpu"},
    }


def grow(source: Path, items: int, out: Path, steps: int, backend: str) -> dict[str, Any]:
    """All steps on one size; its files are removed afterwards."""
    folder = out / str(items)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    draw_tables(source, items, folder)
    (folder / "run.toml").write_text(tomli_w.dumps(run_file(steps)))
    tool = str(Path(sys.executable).with_name("embedkit"))
    found: dict[str, Any] = {"events": pq.read_metadata(folder / "events.parquet").num_rows}
    found["train"] = measured([tool, "train", str(folder / "run.toml"), "--runs-dir", str(folder / "runs")])
    (bundle,) = (folder / "runs").glob("*/bundle")
    vectors, index = folder / "vectors", folder / "index"
    found["embed"] = measured([tool, "embed", str(bundle), str(folder / "items.parquet"), "--tower", "item", "--out", str(vectors)])
    told = folder / "index.json"
    found["index"] = measured([tool, "index", str(vectors), "--out", str(index), "--use", backend, "--keep", "", "--json"], told)
    found["recall"] = json.loads(told.read_text())["backend_recall"]
    found["search"] = measured([tool, "search", str(index), *(f"--id={i}" for i in range(100)), "--json"])
    shutil.rmtree(folder)
    return found


def page(known: dict[str, dict[str, Any]]) -> str:
    """The table in Markdown; below each size's times, how they grew against the size before."""
    header = " | ".join(f"{step}, s | MiB" for step in STEPS)
    lines = [f"| items | events | {header} | found in the self-test |", "|---|---|" + "---|---|" * len(STEPS) + "---|"]
    before: tuple[int, dict[str, Any]] | None = None
    for items, found in sorted((int(key), value) for key, value in known.items()):
        cells = " | ".join(f"{found[step]['seconds']:,.1f} | {found[step]['peak']:,}" for step in STEPS)
        lines.append(f"| {items:,} | {found['events']:,} | {cells} | {_share(found.get('recall'))} |")
        if before is not None:
            grown = " | ".join(
                f"x {found[step]['seconds'] / before[1][step]['seconds']:.1f} | x {found[step]['peak'] / before[1][step]['peak']:.1f}"
                for step in STEPS
            )
            lines.append(f"| x {items / before[0]:.0f} | | {grown} | |")
        before = (items, found)
    return "\n".join(lines) + "\n"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


@told()
def main() -> None:
    """Run the study."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="transactions.parquet of online_retail")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--items", type=int, nargs="+", default=[10_000, 100_000, 1_000_000, 10_000_000])
    parser.add_argument("--steps", type=int, default=200, help="training steps, the same for every size")
    parser.add_argument("--backend", default="hnsw", help="index backend")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "results.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    for items in options.items:
        if str(items) not in known:
            known[str(items)] = grow(options.source, items, options.out, options.steps, options.backend)
            atomic_write(path, json.dumps(known, indent=1) + "\n")
            atomic_write(options.out / "results.md", page(known))
    print(page(known))


if __name__ == "__main__":
    main()
