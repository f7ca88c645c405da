"""Memory and speed of T-JEPA pre-training, and of embedding with what it learned, as the columns grow from 10 to 500."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from harness import Goal, Section
from step_memory import peak

COLUMNS = (10, 30, 100, 500)
ROWS, SIZE, STEPS, WIDTH, CODES = 10_000, 256, 20, 32, 12

TEXT = """Two processes for each number of columns, half of them numbers and half categories: one trains {steps} steps of {size} rows
(`embedkit.train`: width {width}, two layers, one register, four targets, predictor of width 16; tables, codecs and bundle in it), the
other loads the bundle and embeds {rows:,} rows (`embedkit.api.embed`). The peak is the process's highest resident memory as Linux keeps
it; importing alone takes {bare:,.0f} MiB of it. The time of a step is that of the second half of the steps; context and targets are 30%
of the columns each."""


def run(quick: bool) -> list[Section]:
    """Every number of columns."""
    counts, steps, rows = ((10, 50), 4, 1_000) if quick else (COLUMNS, STEPS, ROWS)
    found: dict[int, tuple[dict[str, float], dict[str, float]]] = {}
    with tempfile.TemporaryDirectory(prefix="embedkit-bench-") as root:
        bare = child("bare", root, 0, steps)["peak"]
        for columns in counts:
            write(Path(root) / f"{columns}.parquet", columns, rows)
            found[columns] = child("train", root, columns, steps), child("embed", root, columns, steps)
    lines = [
        [
            f"{columns:,}",
            f"{SIZE / trained['rate'] * 1e3:,.1f} ms",
            f"{trained['peak']:,.0f} MiB",
            f"{rows / embedded['seconds']:,.0f}",
            f"{embedded['peak']:,.0f} MiB",
        ]
        for columns, (trained, embedded) in found.items()
    ]
    least, most = counts[0], counts[-1]
    goals = []
    for i, what in enumerate(("training", "embedding")):
        growth = (found[most][i]["peak"] - bare) / (found[least][i]["peak"] - bare)
        name = f"memory of T-JEPA {what} beyond the imports, {most} columns over {least}"
        goals.append(Goal(name, f"at most {most / least:.0f}, as the columns", f"{growth:.1f}", growth <= most / least))
    text = TEXT.format(steps=steps, size=SIZE, width=WIDTH, rows=rows, bare=bare)
    header = ["columns", "step", "peak of training", "rows/s embedded", "peak of embedding"]
    return [Section("T-JEPA as the columns grow", text, header, lines, goals)]


def child(what: str, root: str, columns: int, steps: int) -> dict[str, float]:
    """What a process of its own found."""
    options = json.dumps({"what": what, "root": root, "columns": columns, "steps": steps})
    done = subprocess.run([sys.executable, __file__, options], stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def write(path: Path, columns: int, rows: int) -> None:
    """Rows with a key; the numbers tell of each other, the categories are drawn."""
    draw = np.random.default_rng(0)
    numbers = columns // 2
    mixed = draw.normal(size=(rows, 4)) @ draw.normal(size=(4, numbers))
    values = {f"n{i}": mixed[:, i] for i in range(numbers)}
    values |= {f"c{i}": draw.integers(0, CODES, rows) for i in range(columns - numbers)}
    pl.DataFrame({"id": np.arange(rows), **values}).write_parquet(path)


# ---------------------------------------------------------------------- the child


def run_file(columns: int, steps: int) -> dict[str, Any]:
    """Pre-training on all columns but the key."""
    names = {f"n{i}": "number" for i in range(columns // 2)} | {f"c{i}": "category" for i in range(columns - columns // 2)}
    masks = {"context": [0.3, 0.3], "target": [0.3, 0.3], "targets": 4}
    return {
        "format": 1,
        "name": f"columns-{columns}",
        "tables": {"rows": {"uri": f"{columns}.parquet", "key": "id"}},
        "fields": {name: {"table": "rows", "type": kind} for name, kind in names.items()},
        "towers": {"row": list(names)},
        "model": {
            "dim": WIDTH,
            "trunk": {"use": "feature_transformer", "layers": 2, "heads": 4, "hidden": 2 * WIDTH},
            "head": {"use": "linear", "identity": True, "normalize": False},
        },
        "stages": [
            {
                "use": "train",
                "steps": steps,
                "streams": {"main": {"table": "rows", "size": SIZE, "drop_last": True}},
                "views": [{"use": "jepa_masks", "of": "main", "makes": ["context"], **masks}],
                "losses": [{"use": "t_jepa", "tower": "row", "context": "context", "width": 16}],
                "networks": {"teacher": {"kind": "ema", "momentum": 0.996}},
                "log_every": max(1, steps // 2),
            }
        ],
        "compute": {"device": "cpu"},
    }


def inside(what: str, root: str, columns: int, steps: int) -> dict[str, float]:
    """Train or embed, or import what both do."""
    import torch  # noqa: F401 - counted

    import embedkit
    import embedkit.api
    from embedkit.training.report import MetricsFile

    folder = Path(root)
    found: dict[str, float] = {}
    if what == "train":
        result = embedkit.train(run_file(columns, steps), folder / "runs", base=folder)
        (folder / f"{columns}.bundle").write_text(str(result.bundle))
        found["rate"] = MetricsFile(result.folder.metrics).records()[-1]["rows_per_second"]
    elif what == "embed":
        bundle = embedkit.load((folder / f"{columns}.bundle").read_text()).bundle
        start = time.perf_counter()
        embedkit.api.embed(bundle, folder / f"vectors-{columns}", table=str(folder / f"{columns}.parquet"))
        found["seconds"] = time.perf_counter() - start
    return found | {"peak": peak() / 2**20}


if __name__ == "__main__":
    print(json.dumps(inside(**json.loads(sys.argv[1]))))
