"""A step of T-JEPA pre-training beside its own matrix products: the same shapes, layouts and number type, and nothing else."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from harness import Goal, Section, Times, interleave, milliseconds
from tjepa_step import CATEGORIES, NUMBERS, SHARE, run_file
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from train_step import LEAD_IN, open_session

from embedkit.training.loop import train
from embedkit.training.session import Session

aten = torch.ops.aten
SIZES = {"width 32, 2 layers": (32, 2), "width 128, 4 layers": (128, 4)}

TEXT = """The products of one step are recorded as it runs, forward and backward: every `mm`, `addmm` and `bmm` with the shapes, strides
and number type of its operands, and attention as the products it stands for (two forward, four backward; the kernel does one more,
since it computes its scores again). The floor is the time of these products alone, on ready operands of the same layouts, one after the
other. Step and floor take turns. What a step takes beyond its floor is all that is no product: norms, softmax, activations, tokens and
embeddings, the optimiser, the teacher's average, the loader, and the reading of operands that have gone cold.

Rows of {columns} columns, 256 a batch, context and targets {share:.0%} of the columns each, four targets; predictor of half the width,
two layers; float32."""

Layout = tuple[tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True)
class Product:
    """Two operands of a matrix product: shapes and strides, [B, M, K] by [B, K, N] or without B."""

    left: Layout
    right: Layout
    dtype: torch.dtype

    @property
    def flops(self) -> int:
        """Multiplications and additions."""
        (*batch, m, k), n = self.left[0], self.right[0][-1]
        return 2 * m * k * n * (batch[0] if batch else 1)

    def operands(self) -> tuple[Tensor, Tensor]:
        """Random ones of these layouts."""
        made = [torch.empty_strided(shape, stride, dtype=self.dtype) for shape, stride in (self.left, self.right)]
        return made[0].normal_(), made[1].normal_()


class Products(TorchDispatchMode):
    """Counts the products of what runs inside."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[Product] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        """Note the call, then make it."""
        packet = func.overloadpacket
        if packet in (aten.mm, aten.bmm):
            self._add(args[0], args[1])
        elif packet in (aten.addmm, aten.baddbmm):
            self._add(args[1], args[2])
        elif packet is aten._scaled_dot_product_flash_attention_for_cpu:
            self._attention(*args[:3])
        elif packet is aten._scaled_dot_product_flash_attention_for_cpu_backward:
            self._attention(*args[1:4], backward=True)
        elif "scaled_dot_product" in packet.__name__ or packet in (aten.convolution, aten.addbmm):
            raise SystemExit(f"tjepa_floor: the step runs {packet.__name__}, whose products are not known here")
        return func(*args, **(kwargs or {}))

    def _attention(self, q: Tensor, k: Tensor, v: Tensor, *, backward: bool = False) -> None:
        q, k, v = (x.flatten(0, 1) for x in (q, k, v))
        scores = q.new_empty(q.shape[0], q.shape[1], k.shape[1])
        if not backward:
            self._add(q, k.transpose(1, 2))
            self._add(scores, v)
            return
        self._add(scores.transpose(1, 2), q)  # to the values, from a slope of the output, which has the queries' shape
        self._add(q, v.transpose(1, 2))
        self._add(scores, k)
        self._add(scores.transpose(1, 2), q)

    def _add(self, left: Tensor, right: Tensor) -> None:
        self.found[Product(_layout(left), _layout(right), left.dtype)] += 1


def _layout(x: Tensor) -> Layout:
    return tuple(x.shape), tuple(x.stride())


def run(quick: bool) -> list[Section]:
    """Both sizes."""
    rounds, steps = (3, 2) if quick else (11, 10)
    rows, goals = [], []
    with tempfile.TemporaryDirectory(prefix="embedkit-bench-") as root:
        for name, (width, layers) in SIZES.items():
            folder = Path(root) / name.partition(",")[0].replace(" ", "-")
            folder.mkdir()
            times, flops = measure(sized(run_file(folder), width, layers), folder, rounds, steps)
            floor, step = (times.median(side) / steps for side in ("floor", "step"))
            ratio = times.ratio("step", "floor")
            rate = f"{flops / floor / 1e9:,.1f} GFLOP/s"
            rows.append([name, f"{flops / 1e9:,.2f} GFLOP", rate, milliseconds(floor), milliseconds(step), str(ratio)])
            goals.append(Goal(f"T-JEPA step over its matrix products: {name}", "-", str(ratio), None))
    text = TEXT.format(columns=NUMBERS + CATEGORIES, share=SHARE)
    header = ["model", "products of a step", "measured rate", "floor, a step", "step", "ratio"]
    text += f"\n\n{rounds} pairs of {steps} steps, {torch.get_num_threads()} threads."
    return [Section("T-JEPA step over its matrix products", text, header, rows, goals)]


def sized(run: dict[str, Any], width: int, layers: int) -> dict[str, Any]:
    """The run with another encoder, and a predictor of half its width."""
    run["model"]["dim"] = width
    run["model"]["trunk"] |= {"layers": layers, "hidden": 2 * width}
    run["stages"][0]["losses"][0] |= {"width": width // 2}
    return run


def measure(run: dict[str, Any], folder: Path, rounds: int, steps: int) -> tuple[Times, int]:
    """Times of blocks of steps and of their products, and the operations of a step."""
    session = open_session(run, folder)
    found = products(session)
    ready = [(product.operands(), count) for product, count in found.items()]

    def block(count: int) -> None:
        session.total = session.step + count
        train(session)

    def floor() -> None:
        for _ in range(steps):
            for (left, right), count in ready:
                for _ in range(count):
                    torch.matmul(left, right)

    def settle() -> None:
        time.sleep(0.2)  # the loader's thread finishes what it makes ahead

    with session:
        sides = {"step": lambda: block(steps), "floor": floor}
        times = interleave(sides, rounds, before={"step": lambda: block(LEAD_IN), "floor": settle})
    return times, sum(product.flops * count for product, count in found.items())


def products(session: Session) -> Counter[Product]:
    """The products of one step; its gradients are dropped."""
    views, _ = session.next_views()
    with Products() as recorded:
        session.module(views, session.clock, session.random).total.backward()
    session.module.zero_grad(set_to_none=True)
    return recorded.found
