"""Peak memory and speed of `embedkit embed` on a small and a four times larger catalogue."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from harness import Goal, Section

ROWS = 1_000_000
TIMES = 4
LIMIT = 0.10
_BLOCK = 50_000

TEXT = """`embedkit embed` in a process of its own over one Parquet file of synthetic items (id, title of four words, one of 9 brands,
price; row groups of {block:,} rows), with an untrained bundle of {dim} dimensions (embedding, hashed text, number, mlp). The peak is the
child's `ru_maxrss`, so it holds the interpreter and its libraries; importing torch, polars and pyarrow alone takes {bare:,.0f} MiB."""

_BUNDLE = """
import sys
from pathlib import Path
from embedkit.host import Host
from embedkit.testing.shop import make_bundle, write_tables
write_tables(Path(sys.argv[1]))
make_bundle(Path(sys.argv[1]), Host.load().registry, Path(sys.argv[2]))
"""
"""Made in another process: what a parent holds counts into the peak of its children on Linux."""


def run(quick: bool) -> list[Section]:
    """Both sizes, and the ratio of their peaks."""
    sizes = [ROWS // 10, TIMES * ROWS // 10] if quick else [ROWS, TIMES * ROWS]
    found = []
    with tempfile.TemporaryDirectory(prefix="embedkit-bench-") as root:
        folder = Path(root)
        subprocess.run([sys.executable, "-c", _BUNDLE, root, f"{root}/bundle"], check=True)
        bare, _ = peak([sys.executable, "-c", "import torch, polars, pyarrow"])
        for rows in sizes:
            write_catalogue(folder / f"{rows}.parquet", rows)
            found.append(embed(folder, rows))
    rows_ = [
        [f"{rows:,}", f"{memory:,.0f} MiB", f"{seconds:,.1f} s", f"{rows / seconds:,.0f}"]
        for rows, (memory, seconds) in zip(sizes, found, strict=True)
    ]
    growth = found[1][0] / found[0][0] - 1
    goal = Goal(
        f"peak memory of `embed`, {sizes[1]:,} rows over {sizes[0]:,}",
        f"the same within {LIMIT:.0%}",
        f"{growth:+.1%}",
        abs(growth) <= LIMIT,
    )
    text = TEXT.format(block=_BLOCK, dim=16, bare=bare)
    return [Section("Memory of embedding a catalogue", text, ["rows", "peak", "time", "rows/s"], rows_, [goal])]


def embed(folder: Path, rows: int) -> tuple[float, float]:
    """Peak in MiB and seconds of one `embedkit embed`."""
    script = Path(sys.executable).with_name("embedkit")
    command = [str(script), "embed", str(folder / "bundle"), str(folder / f"{rows}.parquet"), "--out", str(folder / f"out-{rows}")]
    return peak(command)


def peak(command: list[str]) -> tuple[float, float]:
    """Peak resident memory in MiB and wall time of a command that must end well."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    took = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return usage.ru_maxrss / unit, took


def write_catalogue(path: Path, rows: int) -> None:
    """Block by block, so that the size does not matter here either."""
    random = np.random.default_rng(0)
    words = np.array([f"word{i}" for i in range(5_000)], dtype=object)
    writer: pq.ParquetWriter | None = None
    for start in range(0, rows, _BLOCK):
        count = min(_BLOCK, rows - start)
        drawn = words[random.integers(0, len(words), (4, count))]
        block = pa.table(
            {
                "item_id": pa.array([f"item-{i}" for i in range(start, start + count)]),
                "title": pa.array(drawn[0] + " " + drawn[1] + " " + drawn[2] + " " + drawn[3], pa.string()),
                "brand": pa.array([f"brand-{i}" for i in random.integers(0, 9, count)]),
                "price": random.gamma(2, 10, count),
            }
        )
        writer = writer or pq.ParquetWriter(path, block.schema)
        writer.write_table(block)
    assert writer is not None
    writer.close()
