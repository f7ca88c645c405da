"""Peak memory of one train step at a batch of 65,536 cut into pieces, beside a whole step at 4,096; and that the gradients are the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import psutil
from harness import Goal, Section

PIECE, LARGE, CHECKED = 4_096, 65_536, 8_192
LIMIT = 1.5
CLOSE = 1e-5

TEXT = """One step (forward, loss, backward) in a process of its own; what is counted is the highest resident memory during the step less
that just before it, when libraries, tables and the batch are there. Model: histories of {length} items through a causal transformer of
two layers, items by id and kind, {dim} dimensions, no dropout; in-batch `sampled_softmax` with every target of the batch a candidate,
so that a batch of {large:,} has {logits:.1f} billion logits. Pieces: `forward_rows = {piece:,}`. A whole step at {large:,} would need about
{times} times the memory of one at {piece:,} for its encoders alone. Blocks of 1 MiB and more are given back to the system when they are
freed (`MALLOC_MMAP_THRESHOLD_=1048576`, both steps): left to itself, glibc keeps several GB of freed blocks of the pieces.

The gradients of a batch of {checked:,}, whole and in pieces of {part:,}, differ by {difference:.1e} of their largest number."""

LENGTH, DIM, ITEMS = 20, 64, 20_000


def run(quick: bool) -> list[Section]:
    """Both steps, and the gradients."""
    scale = 16 if quick else 1
    piece, large, checked = PIECE // scale, LARGE // scale, CHECKED // scale
    with tempfile.TemporaryDirectory(prefix="embedkit-bench-") as root:
        write_tables(Path(root), large)
        whole = step(root, piece, None)
        cut = step(root, large, piece)
        difference = step(root, checked, checked // 8, compare=True)["difference"]
    rows = [
        [name, f"{size:,}", f"{found['bytes'] / 2**20:,.0f} MiB", f"{found['seconds']:,.1f} s"]
        for name, size, found in (("whole", piece, whole), (f"pieces of {piece:,}", large, cut))
    ]
    ratio = cut["bytes"] / whole["bytes"]
    goals = [
        Goal(f"memory of a step, batch {large:,} in pieces over {piece:,} whole", f"at most {LIMIT:.2f}", f"{ratio:.2f}", ratio <= LIMIT),
        Goal("gradients in pieces and whole", f"within {CLOSE:.0e}", f"{difference:.1e}", difference <= CLOSE),
    ]
    text = TEXT.format(
        length=LENGTH,
        dim=DIM,
        large=large,
        logits=large**2 / 1e9,
        piece=piece,
        times=large // piece,
        checked=checked,
        part=checked // 8,
        difference=difference,
    )
    return [Section("Memory of a large batch", text, ["step", "batch", "memory", "time"], rows, goals)]


def step(root: str, size: int, rows: int | None, *, compare: bool = False) -> dict[str, Any]:
    """What one step in a process of its own found."""
    options = json.dumps({"root": root, "size": size, "rows": rows, "compare": compare})
    # glibc keeps freed blocks of up to 32 MiB by its own rule, so that its peak says little about what was in use; this gives them back.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(2**20)}
    done = subprocess.run([sys.executable, __file__, options], stdout=subprocess.PIPE, text=True, check=True, env=environment)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def write_tables(folder: Path, events: int) -> None:
    """Enough users for a batch of ``events`` train events, each with some history."""
    random = np.random.default_rng(0)
    users, length = events // (LENGTH + 4) + 1, LENGTH + 6
    names = np.array([f"i{i}" for i in range(ITEMS)])
    pl.DataFrame({"item_id": names, "kind": [f"k{i % 40}" for i in range(ITEMS)]}).write_parquet(folder / "items.parquet")
    user, position = np.repeat(np.arange(users), length), np.tile(np.arange(length), users)
    drawn = random.integers(0, ITEMS, users * length)
    pl.DataFrame({"user": user, "position": position, "item_id": names[drawn]}).write_parquet(folder / "events.parquet")


# ---------------------------------------------------------------------- the child


def run_file(size: int, rows: int | None) -> dict[str, Any]:
    """The model of ``train_step.windows`` on events."""
    stage: dict[str, Any] = {
        "use": "train",
        "steps": 1,
        "streams": {"main": {"table": "events", "rows": "events", "sampler": "shuffle", "size": size}},
        "losses": [{"use": "sampled_softmax", "query": "user", "target": "item", "temperature": 0.07, "max_candidates": size}],
    }
    return {
        "format": 1,
        "name": "large",
        "tables": {
            "items": {"uri": "items.parquet", "key": "item_id"},
            "events": {
                "uri": "events.parquet",
                "join": {"item_id": "items"},
                "user": "user",
                "position": "position",
                "split": {"by": "position", "valid": 1, "test": 1},
            },
        },
        "fields": {
            "item_id": {"table": "items", "type": "category", "domain": "item"},
            "kind": {"table": "items", "type": "category"},
            "history": {"table": "events", "type": "sequence", "domain": "item", "max_length": LENGTH},
        },
        "towers": {"item": ["item_id", "kind"], "user": ["history"]},
        "model": {"dim": DIM, "trunks": {"user": {"use": "transformer", "layers": 2, "dropout": 0.0}}},
        "stages": [stage if rows is None else {**stage, "forward_rows": rows}],
    }


def child(root: str, size: int, rows: int | None, compare: bool) -> dict[str, float]:
    """Memory and time of one step, or how far the gradients of pieces are from those of the whole batch."""
    from train_step import open_session

    session = open_session(run_file(size, rows), Path(root))
    views, _ = session.next_views()
    if compare:
        return {"difference": difference(session, views)}
    before = psutil.Process().memory_info().rss
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of the preparation
    start = time.perf_counter()
    session.module(views, session.clock, session.random).total.backward()
    return {"bytes": peak() - before, "seconds": time.perf_counter() - start}


def peak() -> int:
    """Highest resident memory in bytes, as Linux keeps it."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def difference(session: Any, views: Any) -> float:
    """The largest difference of a gradient, over that parameter's largest gradient."""
    found = []
    for rows in (session.module.forward_rows, None):
        session.module.forward_rows = rows
        session.module(views, session.clock, session.random).total.backward()
        found.append([p.grad for p in session.parameters.values()])
        for p in session.parameters.values():
            p.grad = None
    pairs = [(a, b) for a, b in zip(*found, strict=True) if b is not None]
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)


if __name__ == "__main__":
    print(json.dumps(child(**json.loads(sys.argv[1]))))
