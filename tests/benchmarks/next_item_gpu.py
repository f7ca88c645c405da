"""An epoch of next-item training on a GPU, beside the time that its arithmetic and its bytes alone would take there."""

from __future__ import annotations

import re
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import next_item
import numpy as np
import polars as pl
import torch
from harness import Goal, Section, milliseconds
from torch.profiler import ProfilerActivity, profile
from train_step import open_session
from work import Card, Work

from embedkit.training.loop import train
from embedkit.training.session import Session

AIM = 0.30
WHAT = "floor over epoch on a GPU, width 256, the best case"

TEXT = """{card}; a product of bfloat16 matrices ran at {flops:.0f} TFLOP/s there, a copy moved {bytes:.2f} TB/s. The model of the section
before: two causal layers, softmax over all items, bfloat16, logits in pieces, AdamW over the whole table; *compiled*: `compute.compile`.
*beauty*: Amazon Beauty where the prepared copy is at hand, else drawn. *large*: {users:,} users of {length} events each over {items:,}
items of skewed popularity.

*floor*: every matrix product and attention of the epoch at the larger of its arithmetic's and its operands' time at these rates, plus the
bytes of lookups, their gradients and AdamW; norms, activations, dropout and sums count nothing. *of the floor*: floor over epoch. *products
alone*: the same with arithmetic alone. *kernels*: share of the epoch in which the GPU computes, by the profiler; else it waits for the next
kernel. *memory*: the most that was allocated; *logits*: what those of a mean batch would take at once. {rounds} epochs each, after two
that do not count."""

SHARES = "Shares of the kernels' time, by the kernels' names; the same epochs. *elementwise*: the exponentials of the logits among them."

GROUPS = {
    "attention": r"flash|fmha|sdpa",
    "products": r"gemm|nvjet|cutlass|xmma|cublas|splitK",
    "optimiser": r"[aA]dam|multi_tensor",
    "tables": r"embedding|index|gather|scatter|[sS]ort|radix|[sS]can|krn_partial|compute_grad|compute_num",
    "compiled": r"^triton",
    "copies": r"Memcpy|Memset|copy_kernel|CatArray",
    "norms": r"layer_norm|LayerNorm|GammaBeta",
    "sums": r"reduce_kernel",
    "elementwise": r"elementwise",
}
"""Kernels by their names; the first that fits."""


@dataclass(frozen=True)
class Case:
    """What is trained."""

    data: str
    width: int
    batch: int
    compiled: bool


CASES = [
    Case("beauty", 64, 256, False),
    Case("beauty", 64, 256, True),
    Case("beauty", 64, 2048, True),
    Case("beauty", 256, 256, True),
    Case("beauty", 256, 2048, False),
    Case("beauty", 256, 2048, True),
    Case("large", 64, 2048, True),
    Case("large", 256, 2048, False),
    Case("large", 256, 2048, True),
]
USERS, LENGTH, ITEMS = 40_000, 53, 100_000


def run(quick: bool) -> list[Section]:
    """All cases, on the GPU at hand."""
    title = "An epoch of next-item training on a GPU"
    if not torch.cuda.is_available():
        return [Section(title, "Not measured: there is no GPU here.", goals=[Goal(WHAT, f"at least {AIM}", "not measured", None)])]
    card, rounds = Card.measure(), 2 if quick else 4
    rows, profiles, best = [], [], 0.0
    with tempfile.TemporaryDirectory(prefix="embedkit-bench-") as root:
        for name, write in {"beauty": next_item.write_tables, "large": large}.items():
            (Path(root) / name).mkdir()
            write(Path(root) / name)
        for case in CASES[:2] if quick else CASES:
            found = measure(case, Path(root) / case.data, card, rounds)
            rows.append(found.row())
            profiles.append(found.profile_row())
            print(rows[-1], profiles[-1], flush=True)
            if case.width == 256:
                best = max(best, found.share)
    text = TEXT.format(
        card=card.name, flops=card.flops / 1e12, bytes=card.bytes / 1e12, users=USERS, length=LENGTH, items=ITEMS, rounds=rounds
    )
    header = ["model", "epoch", "steps", "floor", "of the floor", "products alone", "kernels", "memory", "logits"]
    second = ["model", "kernels, a step", *GROUPS, "other"]
    goal = Goal(WHAT, f"at least {AIM}", f"{best:.2f}", best >= AIM)
    return [
        Section(title, text, header, rows, [goal]),
        Section("Where the GPU's time goes", SHARES, second, profiles),
    ]


@dataclass(frozen=True)
class Found:
    """What a case took: seconds of an epoch, of its floor, of its products at the card's rate, of kernels by group; bytes at most."""

    case: Case
    steps: int
    epoch: float
    floor: float
    arithmetic: float
    groups: Counter[str]
    peak: int
    logits: int

    @property
    def name(self) -> str:
        case = self.case
        return f"{case.data}, width {case.width}, {case.batch:,} users a batch{', compiled' if case.compiled else ''}"

    @property
    def share(self) -> float:
        """Floor over epoch."""
        return self.floor / self.epoch

    def row(self) -> list[str]:
        kernels = sum(self.groups.values())
        return [
            self.name,
            milliseconds(self.epoch),
            str(self.steps),
            milliseconds(self.floor),
            f"{self.share:.1%}",
            f"{self.arithmetic / self.epoch:.1%}",
            f"{kernels / self.epoch:.0%}",
            f"{self.peak / 2**30:.1f} GiB",
            f"{self.logits / 2**30:.2f} GiB",
        ]

    def profile_row(self) -> list[str]:
        kernels = sum(self.groups.values())
        return [self.name, milliseconds(kernels / self.steps), *(f"{self.groups[group] / kernels:.0%}" for group in (*GROUPS, "other"))]


def measure(case: Case, folder: Path, card: Card, rounds: int) -> Found:
    """Epochs, then one with its kernels recorded; the floor by an epoch that is not compiled."""
    with opened(case, folder, compiled=False) as session, Work(card) as work:
        epoch(session)
    torch.cuda.empty_cache()
    with opened(case, folder, compiled=case.compiled) as session:
        torch.cuda.reset_peak_memory_stats()
        times = [epoch(session) for _ in range(rounds + 2)][2:]
        peak = torch.cuda.max_memory_allocated()
        with profile(activities=[ProfilerActivity.CUDA]) as recorded:
            epoch(session)
    groups: Counter[str] = Counter()
    for event in recorded.key_averages():
        if event.self_device_time_total and not event.is_user_annotation and "#" not in event.key:
            groups[group_of(event.key)] += event.self_device_time_total / 1e6
    return Found(case, session.epoch_steps, median(times), sum(work.time.values()), work.flops / card.flops, groups, peak, logits(session))


def logits(session: Session) -> int:
    """Bytes of those of a mean batch, in bfloat16."""
    windows, store = session.loaders["main"]._windows, session.context.store
    assert windows is not None
    return int(2 * windows.lengths(windows.users()).sum() / session.epoch_steps * store.tables["items"].rows)


def opened(case: Case, folder: Path, *, compiled: bool) -> Session:
    """The train stage of a case."""
    run: dict[str, Any] = next_item.run_file()
    run["model"]["dim"] = case.width
    run["stages"][0]["streams"]["main"]["size"] = case.batch
    run["compute"] |= {"device": "cuda", "compile": compiled}
    return open_session(run, folder)


def epoch(session: Session) -> float:
    """Train one, and wait for the GPU: seconds."""
    session.total = session.step + session.epoch_steps
    torch.cuda.synchronize()
    started = time.perf_counter()
    train(session)
    torch.cuda.synchronize()
    return time.perf_counter() - started


def group_of(kernel: str) -> str:
    """What a kernel does, by its name."""
    return next((group for group, pattern in GROUPS.items() if re.search(pattern, kernel)), "other")


def large(folder: Path) -> None:
    """Histories of one length over many items."""
    random = np.random.default_rng(0)
    item = np.minimum(random.zipf(1.2, USERS * LENGTH), 10**9) % ITEMS
    user, position = np.repeat(np.arange(USERS), LENGTH), np.tile(np.arange(LENGTH), USERS)
    pl.DataFrame({"item": np.arange(ITEMS)}).write_parquet(folder / "items.parquet")
    pl.DataFrame({"user": user, "item": item, "position": position}).write_parquet(folder / "events.parquet")
