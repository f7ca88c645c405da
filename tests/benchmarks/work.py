"""Work: the arithmetic and the bytes that training asks of a GPU, and how long they alone would take at the card's own rates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten


@dataclass(frozen=True)
class Card:
    """What a GPU was measured to do.

    Attributes:
        name: of the card.
        flops: operations a second of a product of two bfloat16 matrices of 8,192 rows and columns.
        bytes: a second, read and written, of a copy of a gibibyte.
    """

    name: str
    flops: float
    bytes: float

    @classmethod
    def measure(cls) -> Card:
        """The card at hand; medians of ten."""
        a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
        c, x = torch.empty_like(a), torch.randn(2**28, device="cuda")
        y = torch.empty_like(x)
        return cls(
            torch.cuda.get_device_name(),
            2 * 8192**3 / seconds(lambda: torch.mm(a, b, out=c)),
            2 * x.nbytes / seconds(lambda: y.copy_(x)),
        )


def seconds(what: Callable[[], Any], rounds: int = 10) -> float:
    """Median time on the GPU, after three rounds that do not count."""
    marks = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(rounds + 3)]
    for start, stop in marks:
        start.record()
        what()
        stop.record()
    torch.cuda.synchronize()
    times = sorted(start.elapsed_time(stop) for start, stop in marks[3:])
    return times[len(times) // 2] / 1e3


class Work(TorchDispatchMode):
    """Counts what runs inside: matrix products, attention, table lookups with their gradients, and the optimiser's update.

    Every one reads its operands once and writes its results once. All else (norms, activations, sums, dropout) counts nothing, as if it
    were done on the way. Attention counts its products (two forward, four backward; half of them where it is causal) and the bytes of
    queries, keys, values and results.

    Attributes:
        flops: multiplications and additions.
        time: kind → seconds at the card's rates: of each call the larger of its arithmetic's and its bytes'.
    """

    def __init__(self, card: Card) -> None:
        super().__init__()
        self.card = card
        self.flops = 0
        self.time: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        """Make the call, then count it."""
        found = func(*args, **(kwargs or {}))
        packet = func.overloadpacket
        name = packet.__name__
        if packet in (aten.mm, aten.bmm):
            self._add("products", _product(args[0], args[1]), args[0], args[1], found)
        elif packet in (aten.addmm, aten.baddbmm):
            self._add("products", _product(args[1], args[2]), args[1], args[2], found)
        elif "scaled_dot_product" in name:
            names = [argument.name for argument in func._schema.arguments]
            self._attention({**dict(zip(names, args, strict=False)), **(kwargs or {})}, "backward" in name)
        elif packet is aten.embedding:
            self._add("tables", 0, found, found)
        elif packet is aten.embedding_dense_backward:
            self._add("tables", 0, args[0], found)
        elif packet is aten._fused_adamw_:
            self._add("optimiser", 0, *args[0], *args[0], *args[1], *args[2], *args[2], *args[3], *args[3])
        return found

    def _attention(self, given: dict[str, Any], backward: bool) -> None:
        q, k, v = given["query"], given["key"], given["value"]
        product = 2 * q.shape[0] * q.shape[1] * q.shape[2] * k.shape[2] * q.shape[3] // (2 if given.get("is_causal") else 1)
        if backward:  # reads the slope of the output too, writes three slopes
            self._add("attention", 4 * product, q, k, v, q, q, k, v)
        else:
            self._add("attention", 2 * product, q, k, v, q)

    def _add(self, kind: str, flops: int, *moved: Tensor) -> None:
        self.flops += flops
        self.time[kind] += max(flops / self.card.flops, sum(x.nbytes for x in moved) / self.card.bytes)


def _product(left: Tensor, right: Tensor) -> int:
    return 2 * left.numel() * right.shape[-1]
