"""A step of T-JEPA pre-training by embedkit beside a step of a loop written by hand, in interleaved blocks of steps."""

from __future__ import annotations

import copy
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
import torch.nn.functional as F
from harness import Section, at_most, interleave, milliseconds
from torch import Tensor, nn
from train_step import LEAD_IN, LIMIT, open_session, order

from embedkit.nn.model import Model
from embedkit.training.loop import train
from embedkit.training.session import Session
from embedkit.views import View
from embedkit_tabular.masks import TARGET
from embedkit_tabular.t_jepa import TJepa

NUMBERS, CATEGORIES, CODES = 15, 15, 12
CONTEXT, TARGETS, SHARE = 0.3, 4, 0.3
MOMENTUM = 0.996

TEXT = """Rows of {columns} columns, 256 a batch; width 32, two layers, one register, four targets, a predictor of width 16 and two layers.
Context and targets are {share:.0%} of the columns each, so that every step costs the same. Both sides start from the same weights; before
the timing, the loss of one batch and the gradients of the student's blocks are compared.

*embedkit*: the train stage as `embedkit train` runs it: loader, `jepa_masks`, `StepModule` with student, teacher and predictor, finite
check, clip, AdamW, the teacher's average, meter, the watch for collapse and a line of the log a block, deterministic algorithms on.

*by hand* (`tests/benchmarks/tjepa_step.py`): plain tensors. One table of all categories and one product for all numbers make the tokens;
index tensors of context and targets gather them; the same transformer blocks; all targets in one call of the predictor; AdamW fused,
clip, average by `lerp`. No missing values, names, views or padding."""


def run(quick: bool) -> list[Section]:
    """The one configuration."""
    rounds, steps = (3, 5) if quick else (15, 20)
    with tempfile.TemporaryDirectory(prefix="embedkit-bench-") as root:
        times, threads = measure(Path(root), rounds, steps)
    ratio = times.ratio("embedkit", "by hand")
    each = [milliseconds(times.median(side) / steps) for side in ("embedkit", "by hand")]
    text = f"{TEXT.format(columns=NUMBERS + CATEGORIES, share=CONTEXT)}\n\n{rounds} pairs, {threads} threads."
    goals = [at_most("T-JEPA step over one by hand", ratio, LIMIT)]
    return [Section("T-JEPA step", text, ["embedkit, a step", "by hand", "ratio"], [[*each, str(ratio)]], goals)]


def run_file(folder: Path) -> dict[str, Any]:
    """20,000 random rows, and a run that pre-trains on them."""
    draw, rows = np.random.default_rng(0), 20_000
    columns = {f"n{i}": draw.normal(size=rows) for i in range(NUMBERS)}
    columns |= {f"c{i}": draw.integers(0, CODES, rows) for i in range(CATEGORIES)}
    pl.DataFrame(columns).write_parquet(folder / "rows.parquet")
    kinds = {name: "number" if name.startswith("n") else "category" for name in columns}
    masks = {"context": [CONTEXT, CONTEXT], "target": [SHARE, SHARE], "targets": TARGETS}
    return {
        "format": 1,
        "name": "tjepa",
        "seed": 7,
        "tables": {"rows": {"uri": "rows.parquet"}},
        "fields": {name: {"table": "rows", "type": kind} for name, kind in kinds.items()},
        "towers": {"row": list(columns)},
        "model": {
            "dim": 32,
            "encoders": [{"use": "number", "fields": [name for name, kind in kinds.items() if kind == "number"], "kind": "linear"}],
            "trunk": {"use": "feature_transformer", "layers": 2, "heads": 4, "hidden": 64},
            "head": {"use": "linear", "identity": True, "normalize": False},
        },
        "stages": [
            {
                "use": "train",
                "steps": 1,
                "streams": {"main": {"table": "rows", "sampler": "shuffle", "size": 256, "drop_last": True}},
                "views": [{"use": "jepa_masks", "of": "main", "makes": ["context"], **masks}],
                "losses": [{"use": "t_jepa", "tower": "row", "context": "context", "width": 16, "layers": 2, "heads": 4}],
                "networks": {"teacher": {"kind": "ema", "momentum": MOMENTUM}},
                "optimizer": {"use": "adamw", "lr": 1e-3, "weight_decay": 0.0},
            }
        ],
        "compute": {"device": "cpu", "threads": 1},
    }


def measure(folder: Path, rounds: int, steps: int) -> tuple[Any, int]:
    """Times of blocks of ``steps`` steps, and the threads."""
    session = open_session(run_file(folder), folder)
    mine = ByHand(session)
    check_equal(session, mine)

    def block(count: int) -> None:
        session.total = session.step + count
        train(session)

    def lead_in() -> None:
        torch.set_deterministic_debug_mode("error")
        block(LEAD_IN)

    def settle() -> None:
        time.sleep(0.2)  # the loader's thread finishes what it makes ahead
        torch.set_deterministic_debug_mode("default")

    with session:
        sides = {"embedkit": lambda: block(steps), "by hand": lambda: mine(steps)}
        times = interleave(sides, rounds, before={"embedkit": lead_in, "by hand": settle})
    return times, torch.get_num_threads()


class Encoder(nn.Module):
    """Tokens of all columns, and the blocks; weights copied from a ``Model``."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        numbers, embedding, trunk = model.encoders["number"], model.encoders["embedding"], model.trunks["row"]
        linear = [numbers.linear[f"n{i}"] for i in range(NUMBERS)]
        tables = [embedding.table(f"c{i}") for i in range(CATEGORIES)]
        self.weight = nn.Parameter(torch.stack([one.weight[:, 0] for one in linear]).detach())
        self.bias = nn.Parameter(torch.stack([one.bias for one in linear]).detach())
        self.table = nn.Parameter(torch.cat(tables).detach())
        self.register_buffer("base", torch.tensor([0, *(len(table) for table in tables[:-1])]).cumsum(0))
        types = torch.cat([trunk.types[:1].expand(NUMBERS, -1), trunk.types[1:].expand(CATEGORIES, -1)])
        self.marks = nn.Parameter((trunk.fields + types).detach())
        self.register = nn.Parameter(trunk.registers.detach().clone())
        self.blocks, self.norm = copy.deepcopy(trunk.blocks), copy.deepcopy(trunk.norm)

    def forward(self, numbers: Tensor, codes: Tensor, shown: Tensor | None = None) -> Tensor:
        """numbers [B, 15], codes [B, 15], shown [B, C] columns → [B, 1 + columns, D]."""
        x = torch.cat([numbers.unsqueeze(2) * self.weight + self.bias, F.embedding(codes + self.base, self.table)], 1) + self.marks
        if shown is not None:
            x = x.gather(1, shown.unsqueeze(2).expand(-1, -1, x.shape[2]))
        x = torch.cat([self.register.expand(len(x), -1, -1), x], 1)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


class ByHand:
    """Student, teacher, predictor, and their updates."""

    def __init__(self, session: Session) -> None:
        store, loss = session.context.store, session.module.losses["t_jepa"]
        assert isinstance(loss, TJepa)
        columns = store.columns("rows")
        self.numbers = torch.stack([columns[f"n{i}"].values for i in range(NUMBERS)], 1)
        self.codes = torch.stack([columns[f"c{i}"].values for i in range(CATEGORIES)], 1)
        self.order = [torch.from_numpy(rows) for rows in order(session, "main", 400)]
        self.student = Encoder(session.context.model)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        self.predictor = copy.deepcopy(loss.predictor)
        self.parameters = [*self.student.parameters(), *self.predictor.parameters()]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=1e-3, weight_decay=0.0, fused=True)
        self.generator = torch.Generator().manual_seed(0)
        self.at = 0

    def loss(self, rows: Tensor, shown: Tensor, asked: Tensor) -> Tensor:
        """rows [B], shown [B, C] and asked [B, K, T] columns."""
        numbers, codes = self.numbers[rows], self.codes[rows]
        with torch.no_grad():
            whole = self.teacher(numbers, codes)[:, 1:]
            whole = F.layer_norm(whole, whole.shape[-1:])
            wanted = whole.gather(1, asked.flatten(1).unsqueeze(2).expand(-1, -1, whole.shape[2]))
        p, places = self.predictor, self.predictor.positions
        x = p.enter(self.student(numbers, codes, shown))
        mark = torch.cat([places[-1:].expand(len(rows), 1, -1), F.embedding(shown, places)], 1)
        targets = p.mask + F.embedding(asked, places)
        x = torch.cat([(x + mark).unsqueeze(1).expand(-1, TARGETS, -1, -1), targets], 2).flatten(0, 1)
        for block in p.blocks:
            x = block(x)
        found = p.leave(p.norm(x[:, -asked.shape[2] :]))
        return F.mse_loss(found.view_as(wanted), wanted)

    def draw(self, rows: int) -> tuple[Tensor, Tensor]:
        """Columns of contexts, and of targets among the others."""
        total = NUMBERS + CATEGORIES
        order = torch.rand(rows, total, generator=self.generator).argsort(1)
        shown, rest = order[:, : round(CONTEXT * total)], order[:, round(CONTEXT * total) :]
        picks = torch.rand(rows, TARGETS, rest.shape[1], generator=self.generator).topk(round(SHARE * total), 2).indices
        return shown, rest.unsqueeze(1).expand(-1, TARGETS, -1).gather(2, picks)

    def __call__(self, steps: int) -> None:
        for _ in range(steps):
            rows = self.order[self.at]
            self.at = (self.at + 1) % len(self.order)
            self.loss(rows, *self.draw(len(rows))).backward()
            torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            with torch.no_grad():
                torch._foreach_lerp_(list(self.teacher.parameters()), list(self.student.parameters()), 1 - MOMENTUM)


def check_equal(session: Session, mine: ByHand) -> None:
    """Both sides give the same loss and gradients for one batch and mask, else the timing would mean nothing."""
    rows = mine.order[0]
    batch = session.loaders["main"]._batch(rows.numpy())
    views = session.make_views({"main": View(batch)}, session.random)
    result = session.module(views, session.clock, session.random)
    result.total.backward()
    view, names = views["context"], session.context.plan.schema.towers["row"].fields
    shown = (~torch.stack([view.hidden[name] for name in names], 1)).nonzero()[:, 1].view(len(rows), -1)
    asked = torch.stack([view.params[TARGET + name] for name in names], 2).flatten(0, 1).nonzero()[:, 1].view(len(rows), TARGETS, -1)
    loss = mine.loss(rows, shown, asked)
    loss.backward()
    torch.testing.assert_close(loss, result.total, rtol=1e-4, atol=1e-5)
    trunk = session.context.model.trunks["row"]
    for theirs, own in zip(trunk.blocks.parameters(), mine.student.blocks.parameters(), strict=True):
        torch.testing.assert_close(own.grad, theirs.grad, rtol=1e-3, atol=1e-4 * float(theirs.grad.abs().max()))
    session.module.zero_grad(set_to_none=True)
    mine.optimizer.zero_grad(set_to_none=True)
