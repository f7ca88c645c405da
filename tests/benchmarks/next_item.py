"""An epoch of a next-item transformer beside an epoch of RecBole's SASRec, both with a softmax over all items."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import polars as pl
import torch
from harness import Goal, Ratio, Section
from ranking import INTERPRETER, missing
from train_step import open_session

from embedkit.training.compute import choose_precision
from embedkit.training.loop import train

ROOT = Path(__file__).resolve().parents[2]
WIDTH = 64
LIMIT = 1 / 20

TEXT = """Amazon Beauty where the prepared copy is at hand (`EMBEDKIT_SHARED`), else as many users with histories of the same mean
length drawn at random: {users:,} users, {items:,} items, {events:,} train events. Both: two causal layers of width {width}, two heads, the
last 50 events, softmax over all items, the last two events of each user held out. *embedkit* trains on every position of a window at
once, in {precision}, 256 users a batch; an epoch is {steps} steps. *RecBole* {version} (torch {torch}, numpy {numpy}, its own environment;
`loss_type` CE, its default batch of 2,048) makes a row of every prefix of a history, {rows:,} rows in {batches} batches. The two take
turns: one whole epoch of embedkit, then {some} batches of RecBole, whose epoch is counted as {batches} of these."""


def run(quick: bool) -> list[Section]:
    """Epochs in turns."""
    title, what = "An epoch of next-item training", f"epoch over RecBole's SASRec, width {WIDTH}"
    if (problem := missing()) is not None:
        return [Section(title, f"Not compared with RecBole: {problem}", goals=[Goal(what, "at most 0.05", problem, None)])]
    rounds, some = (1, 2) if quick else (3, 8)
    with tempfile.TemporaryDirectory(prefix="embedkit-bench-") as root:
        events = write_tables(Path(root))
        session = open_session(run_file(), Path(root))
        command = [str(INTERPRETER), "-W", "ignore", str(Path(__file__).with_name("recbole_sasrec.py")), f"{root}/events.npz"]
        with (
            session,
            subprocess.Popen([*command, str(torch.get_num_threads())], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other,
        ):
            facts = answer(other)
            mine, theirs = [], []
            for number in range(-1, rounds):  # the first round warms both up
                started = time.perf_counter()
                session.total = session.step + session.epoch_steps
                train(session)
                ours = time.perf_counter() - started
                seconds = ask(other, some)["seconds"] / some * facts["batches"]
                if number >= 0:
                    mine.append(ours)
                    theirs.append(seconds)
            other.stdin.close()  # type: ignore[union-attr]
    ratios = [a / b for a, b in zip(mine, theirs, strict=True)]
    ratio = Ratio(median(ratios), min(ratios), max(ratios), rounds)
    shape = {"users": events["user"].n_unique(), "items": events["item"].n_unique(), "events": len(events), "width": WIDTH}
    precision = choose_precision(session.context.plan.config.compute)
    text = TEXT.format(**shape, **facts, steps=session.epoch_steps, some=some, precision=precision)
    row = [f"width {WIDTH}", f"{median(mine):.1f} s", f"{median(theirs):.0f} s", f"{1 / ratio.median:.0f} times", shown(ratio)]
    goal = Goal(what, "at most 0.05", shown(ratio), ratio.median <= LIMIT)
    return [
        Section(
            title,
            f"{text}\n\n{rounds} rounds, {torch.get_num_threads()} threads.",
            ["model", "embedkit", "RecBole", "faster", "ratio"],
            [row],
            [goal],
        )
    ]


def shown(ratio: Ratio) -> str:
    """A small ratio with the digits that it needs."""
    return f"{ratio.median:.3f} ({ratio.low:.3f} to {ratio.high:.3f})"


def ask(process: Any, count: int) -> Any:
    """Have RecBole train on so many batches."""
    process.stdin.write(f"{count}\n")
    process.stdin.flush()
    return answer(process)


def answer(process: Any) -> Any:
    """One line of JSON; RecBole prints other lines too."""
    for line in process.stdout:
        if line.startswith("{"):
            return json.loads(line)
    raise RuntimeError("RecBole's process ended without an answer; run its command by hand to see why")


def write_tables(folder: Path) -> pl.DataFrame:
    """``items.parquet`` and ``events.parquet`` for embedkit, ``events.npz`` for RecBole; returns the events that train."""
    events = real()
    events = drawn() if events is None else events
    events.select("item").unique().sort("item").write_parquet(folder / "items.parquet")
    events.write_parquet(folder / "events.parquet")
    np.savez(folder / "events.npz", **{name: events[name].to_numpy() for name in events.columns}, width=WIDTH)
    return events.filter(pl.col("position") < pl.col("position").max().over("user") - 1)


def real() -> pl.DataFrame | None:
    """The prepared copy of amazon_beauty, if there is one."""
    shared = Path(os.environ.get("EMBEDKIT_SHARED", ROOT.parent / "shared"))
    path = shared / "datasets" / "amazon_beauty" / "interactions.parquet"
    if not path.is_file():
        return None
    return pl.read_parquet(path).select(user="user_id", item="item_id", position="position")


def drawn() -> pl.DataFrame:
    """22,000 users with 5 to 100 events, about nine on average, over 12,000 items of skewed popularity."""
    random = np.random.default_rng(0)
    lengths = np.minimum(5 + random.geometric(0.2, 22_000), 100)
    user = np.repeat(np.arange(len(lengths)), lengths)
    position = np.arange(len(user)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return pl.DataFrame({"user": user, "item": np.minimum(random.zipf(1.2, len(user)), 12_000), "position": position})


def run_file() -> dict[str, Any]:
    """Ids alone, every position of a window, a softmax over all items."""
    return {
        "format": 1,
        "name": "next-item",
        "seed": 7,
        "tables": {
            "items": {"uri": "items.parquet", "key": "item"},
            "events": {
                "uri": "events.parquet",
                "join": {"item": "items"},
                "user": "user",
                "position": "position",
                "split": {"by": "position", "valid": 1, "test": 1},
            },
        },
        "fields": {
            "item": {"table": "items", "type": "category", "domain": "item"},
            "history": {"table": "events", "type": "sequence", "domain": "item", "max_length": 50},
        },
        "towers": {"item": ["item"], "user": ["history"]},
        "model": {
            "dim": WIDTH,
            "trunks": {"item": {"use": "mean"}, "user": {"use": "transformer", "layers": 2, "heads": 2, "dropout": 0.4}},
            "head": {"use": "linear", "identity": True},
        },
        "stages": [
            {
                "use": "train",
                "steps": 1,
                "streams": {"main": {"table": "events", "rows": "windows", "sampler": "bucketed", "size": 256}},
                "losses": [{"use": "softmax", "query": "user", "target": "item", "temperature": 0.07}],
                "optimizer": {"use": "adamw", "lr": 1e-3},
            }
        ],
        "compute": {"precision": "auto"},
    }
