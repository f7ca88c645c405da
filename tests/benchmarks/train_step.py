"""A step of embedkit's train loop beside a step of a loop written by hand, in interleaved blocks of steps."""

from __future__ import annotations

import copy
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from by_hand import Gather, Loop, WindowGather
from harness import Section, at_most, interleave, milliseconds

from embedkit.config.load import read_toml
from embedkit.data.sampler import SamplerContext
from embedkit.data.store import Store
from embedkit.host import Host
from embedkit.launch import prepare
from embedkit.nn.model import Model
from embedkit.training.catalogue import Catalogue
from embedkit.training.compute import derive_seed, seeded, set_up
from embedkit.training.loop import train
from embedkit.training.session import Session
from embedkit.training.stages import StageContext
from embedkit.views import View

LIMIT = 1.15
LEAD_IN = 4
"""Untimed steps before each timed block of embedkit, so that the batches made ahead are as many at its start as at its end."""

TEXT = """Both sides train the same model class from the same weights on the same rows in the same order; before the timing, the loss and
every gradient of one batch are compared (to 1e-4 and 1e-3 of their size). Each has a copy of the model, and they take turns in blocks
of {steps} steps.

*embedkit*: the train stage as `embedkit train` runs it, without validation and checkpoints: loader with its background thread, views,
`StepModule`, finite check, clip, AdamW, meter, a line of the log a block, deterministic algorithms on.

*by hand* (`tests/benchmarks/by_hand.py`): one plain loop: index the tensors of the encoded tables, run both towers of the same `Model`,
normalise, logits with logQ and masked hits for every prefix, cross entropy, backward, `clip_grad_norm_`, `torch.optim.AdamW(fused=True)`,
`zero_grad`; torch as it comes, without deterministic algorithms. *ready batches* is the same loop handed finished batches, with no data
work at all: what the loader and determinism cost together cannot be more than the ratio to it. The forward through `Model` is common to
all sides, so its own overhead is not measured here."""


def run(quick: bool) -> list[Section]:
    """The two configurations."""
    rounds, steps = (3, 5) if quick else (15, 20)
    rows, goals = [], []
    with tempfile.TemporaryDirectory(prefix="embedkit-bench-") as root:
        for name, make in {"events, hashed text, mlp": python_api, "windows, transformer": windows}.items():
            folder = Path(root) / name.partition(",")[0]
            times, threads = measure(make(folder), folder, rounds, steps)
            ratio = times.ratio("embedkit", "by hand")
            goals.append(at_most(f"train step over one by hand: {name}", ratio, LIMIT))
            each = [milliseconds(times.median(side) / steps) for side in ("embedkit", "by hand", "ready batches")]
            rows.append([name, *each, str(ratio), str(times.ratio("embedkit", "ready batches"))])
    header = ["model", "embedkit, a step", "by hand", "ready batches", "ratio to by hand", "ratio to ready batches"]
    text = TEXT.format(steps=steps) + f"\n\n{rounds} pairs, {threads} threads."
    return [Section("Train step", text, header, rows, goals)]


# ---------------------------------------------------------------------- the two models


def python_api(folder: Path) -> dict[str, Any]:
    """The tables and fields of python_api: 1,024 calls a batch; ids, categories and hashed text through mlp trunks, three prefixes.

    Model, stream and loss are said here, so that tuning the starter run file changes nothing that is measured; no dropout, as below.
    """
    host = Host.load()
    dataset = host.registry.entry("dataset", "python_api")
    dataset.create(dataset.parse({}, where="bench"), context=None).prepare(folder, prepared=None, log=lambda line: None)
    found: dict[str, Any] = read_toml(folder / "run.toml")
    found["towers"]["user"].remove("last_call")  # a second history would be gathered like the first
    del found["fields"]["last_call"]
    found["model"] = {"dim": 64, "head": {"use": "matryoshka", "dims": [16, 32, 64]}}
    found["stages"] = [
        {
            "use": "train",
            "steps": 1,
            "streams": {"main": {"table": "events", "rows": "events", "sampler": "shuffle", "size": 1024}},
            "losses": [{"use": "sampled_softmax", "query": "user", "target": "item", "temperature": 0.07}],
            "optimizer": {"use": "adamw", "lr": 2e-3},
        }
    ]
    return {**found, "evaluate": []}


def windows(folder: Path) -> dict[str, Any]:
    """Sequences of 50 drawn from 5,000 items; 32 users a batch, every position a target; a causal transformer of two layers."""
    users, length, items = 2_000, 53, 5_000
    folder.mkdir()
    random = np.random.default_rng(0)
    names = np.array([f"i{i}" for i in range(items)])
    pl.DataFrame({"item_id": names, "kind": [f"k{i % 40}" for i in range(items)]}).write_parquet(folder / "items.parquet")
    drawn = np.minimum(random.zipf(1.3, users * length) - 1, items - 1)
    user, position = np.repeat(np.arange(users), length), np.tile(np.arange(length), users)
    pl.DataFrame({"user": user, "position": position, "item_id": names[drawn]}).write_parquet(folder / "events.parquet")
    return {
        "format": 1,
        "name": "windows",
        "seed": 7,
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
            "history": {"table": "events", "type": "sequence", "domain": "item", "max_length": 50},
        },
        "towers": {"item": ["item_id", "kind"], "user": ["history"]},
        # No dropout: two sides that draw other masks could not be compared; it costs both the same.
        "model": {"dim": 64, "trunks": {"user": {"use": "transformer", "layers": 2, "dropout": 0.0}}},
        "stages": [
            {
                "use": "train",
                "steps": 1,
                "streams": {"main": {"table": "events", "rows": "windows", "sampler": "shuffle", "size": 32}},
                "losses": [{"use": "sampled_softmax", "query": "user", "target": "item", "temperature": 0.07}],
                "optimizer": {"use": "adamw", "lr": 2e-3},
            }
        ],
    }


# ---------------------------------------------------------------------- measuring


def measure(run_file: Mapping[str, Any], folder: Path, rounds: int, steps: int) -> tuple[Any, int]:
    """Times of blocks of ``steps`` steps, and the threads."""
    session = open_session(run_file, folder)
    mine, ready = by_hand(session), by_hand(session)
    check_equal(session, mine)
    ready.gather = Ready(ready.gather, steps)

    def block(count: int) -> None:
        session.total = session.step + count
        train(session)

    def embedkit() -> None:
        block(steps)

    def lead_in() -> None:
        torch.set_deterministic_debug_mode("error")
        block(LEAD_IN)

    def settle() -> None:
        time.sleep(0.2)  # the loader's thread finishes what it makes ahead
        torch.set_deterministic_debug_mode("default")

    sides = {"embedkit": embedkit, "by hand": lambda: mine(steps), "ready batches": lambda: ready(steps)}
    with session:
        times = interleave(sides, rounds, before={"embedkit": lead_in, "by hand": settle, "ready batches": settle})
    return times, torch.get_num_threads()


def open_session(run_file: Mapping[str, Any], folder: Path) -> Session:
    """The train stage of a run, as ``train_run`` opens it."""
    host = Host.load()
    launch = prepare(run_file, host, base=folder)
    device = set_up(launch.plan.config.compute)
    store = Store.open(launch.plan)
    store.fit()
    with seeded(0):
        model = Model(launch.plan.model, store.codecs.stats)
    model.catalogue = Catalogue(store, device)
    context = StageContext(
        plan=launch.plan,
        host=host,
        store=store,
        model=model,
        folder=launch.create_folder(folder / "runs"),
        index=0,
        name="train",
        seed=derive_seed(7, "stage", 0),
        device=device,
        resume=False,
        log=lambda line: None,
    )
    return Session.open(launch.plan.stages[0].config, context)


def by_hand(session: Session) -> Loop:
    """The loop by hand over the same rows, from the same weights."""
    store, config = session.context.store, session.config
    ((name, stream),) = config.streams.items()
    towers = store.schema.towers
    kind = WindowGather if stream.rows == "windows" else Gather
    rows = store.train_rows(stream.table)
    gather = kind(store, stream.table, list(towers["user"].fields), list(towers["item"].fields), rows, order(session, name, 400))
    if isinstance(gather, WindowGather):
        gather.prepare(store, stream.table)
    counts = store.frequencies(gather.items).clamp(min=1).double()
    options = config.losses[0].options
    return Loop(
        copy.deepcopy(session.context.model),
        gather,
        (counts / counts.sum()).float(),
        options["temperature"],
        config.optimizer.options["lr"],
    )


def order(session: Session, name: str, batches: int) -> list[np.ndarray]:
    """The rows of the first batches, as the stage's own sampler deals them."""
    own = session.loaders[name]._source
    entry = session.context.host.registry.entry("sampler", session.config.streams[name].sampler)
    known = own.context
    fresh: Any = entry.create(own.config, context=SamplerContext(known.rows, known.size, known.seed))
    rows = iter(fresh)
    return [next(rows) for _ in range(batches)]


class Ready:
    """Finished batches, one after the other."""

    def __init__(self, gather: Gather, count: int) -> None:
        self.items = gather.items
        self.batches = [gather() for _ in range(count)]
        self.at = 0

    def __call__(self) -> Any:
        self.at = (self.at + 1) % len(self.batches)
        return self.batches[self.at]


def check_equal(session: Session, mine: Loop) -> None:
    """Both sides give the same loss and gradients on the first batch of each, else the timing would mean nothing."""
    (name,) = session.config.streams
    rows = mine.gather.order[0]
    loader = session.loaders[name]
    theirs = loader._batch(rows)
    result = session.module({name: View(theirs)}, session.clock, session.random)
    result.total.backward()
    loss = mine.loss(mine.gather.events(torch.from_numpy(rows)))
    loss.backward()
    torch.testing.assert_close(loss, result.total, rtol=1e-4, atol=1e-5)
    for (key, a), (_, b) in zip(session.context.model.named_parameters(), mine.model.named_parameters(), strict=True):
        assert (a.grad is None) == (b.grad is None), key
        if a.grad is not None and b.grad is not None:
            torch.testing.assert_close(
                a.grad, b.grad, rtol=1e-3, atol=1e-4 * float(a.grad.abs().max()), msg=lambda m, key=key: f"{key}: {m}"
            )
            a.grad = b.grad = None
