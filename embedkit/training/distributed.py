"""Several processes that train one model: joining them, agreeing, and averaging gradients. With one process nothing happens.

``torchrun`` starts the processes. Each reads the same tables and draws the same batches, of which it takes its shard; the first one alone
writes, validates and evaluates while the others wait. The run's folder must lie where all of them can read it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from embedkit.errors import EmbedkitError, UsageError
from embedkit.nn.gather import alone, rank, shards, world

T = TypeVar("T")

PATIENCE = timedelta(days=7)
"""How long a process waits for another: a validation may be long, and one that dies closes its connections at once."""
BUCKET = 2**23
"""Numbers that are averaged in one message (32 MiB in float32)."""
_FAILED = "failed"

_store: Any = None
"""What ``torchrun`` keeps for the processes, while this one is joined."""
_times = 0
"""How often this process has joined: each time has keys of its own in the store."""


class Elsewhere(EmbedkitError):  # noqa: N818 - it reads as a place at every raise
    """Another process of the run failed; the message and exit code are that process's, which says it to people."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.exit_code = code


def first() -> bool:
    """Whether this is the process that writes."""
    return rank() == 0


# ---------------------------------------------------------------------- joining


@contextmanager
def joined() -> Iterator[None]:
    """Be one of the processes that ``torchrun`` started (as its environment says), and leave them together.

    An error of one process ends all, and one of them tells it; the others exit without a word, with the same code.
    """
    global _store, _times
    if dist.is_initialized():
        yield
        return
    store, own, size = next(rendezvous("env://", timeout=PATIENCE))
    _times += 1
    _store = PrefixStore(f"embedkit/{_times}", store)
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, store=_store, rank=own, world_size=size, timeout=PATIENCE)
    try:
        with one_error():
            yield
    except KeyboardInterrupt:
        if own > 0:
            raise SystemExit(130) from None
        raise
    except Elsewhere as error:
        raise SystemExit(error.exit_code) from None
    finally:
        dist.destroy_process_group()
        _store = None


@contextmanager
def one_error() -> Iterator[None]:
    """Turn an error into ``Elsewhere`` when another process failed before: what is seen here then is only its silence."""
    try:
        yield
    except KeyboardInterrupt:
        if _store is not None:
            _store.compare_set(_FAILED, "", json.dumps([dist.get_rank(), "interrupted", 130]))
        raise
    except Elsewhere:
        raise
    except Exception as error:
        if _store is None:
            raise
        own = json.dumps([dist.get_rank(), str(error), getattr(error, "exit_code", 1)])
        who, text, code = json.loads(_store.compare_set(_FAILED, "", own))
        if who != dist.get_rank():
            raise Elsewhere(text, code) from None
        if isinstance(error, RuntimeError) and "onnection closed by peer" in text:
            raise EmbedkitError(
                "another process of this run was killed or has crashed; what it wrote last says why, and --resume goes on from the last "
                "checkpoint"
            ) from error
        raise


def local_processes() -> int:
    """Processes of this run on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if world() > 1 else 1


def device_of(device: torch.device) -> torch.device:
    """This process's own GPU in place of "a GPU".

    Raises:
        UsageError: the run file names one GPU for all, or there are fewer than processes.
    """
    if world() == 1 or device.type != "cuda":
        return device
    if ":" in str(device):
        raise UsageError(f"compute.device: '{device}' is one GPU, and {world()} processes train: write auto or cuda, each takes its own")
    own = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    if own.index >= torch.cuda.device_count():
        raise UsageError(f"{local_processes()} processes want a GPU each, and there are {torch.cuda.device_count()}: start fewer processes")
    torch.cuda.set_device(own)
    return own


# ---------------------------------------------------------------------- agreeing


def wait() -> None:
    """Until every process is here."""
    any_of(False)


def any_of(flag: bool) -> bool:
    """Whether the flag is set on any process."""
    if world() == 1:
        return flag
    found = torch.tensor([flag], dtype=torch.int64)
    dist.all_reduce(found)
    return bool(found)


def from_first(make: Callable[[], T]) -> T:
    """What ``make`` gives on the first process, a JSON value, on all of them; the others wait. ``make`` may not wait for them."""
    if world() == 1:
        return make()
    if first():
        with alone():
            made = make()
        parts = collect(json.dumps(made).encode())
    else:
        parts = collect(b"")
    found: T = json.loads(parts[0])
    return found


def collect(data: bytes) -> list[bytes]:
    """The bytes of every process, in the order of their ranks."""
    held = torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else torch.zeros(0, dtype=torch.uint8)
    layout = shards(len(held), held.device)
    return [part.numpy().tobytes() for part in torch.split(layout.gather(held), list(layout.sizes))]


def mean(figures: Mapping[str, float]) -> dict[str, float]:
    """Each figure's mean over the processes that have it."""
    if world() == 1:
        return dict(figures)
    found: dict[str, list[float]] = {}
    for part in collect(json.dumps(dict(figures)).encode()):
        for name, value in json.loads(part).items():
            found.setdefault(name, []).append(value)
    return {name: sum(values) / len(values) for name, values in found.items()}


# ---------------------------------------------------------------------- tensors


@torch.no_grad()
def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace every gradient by its mean over the processes; one that is missing here but not elsewhere counts as zeros.

    Said here and not left to ``DistributedDataParallel``: a step is no single forward with tensors for outputs, losses leave parameters
    out from one step to the next, forwards in pieces run twice, and tables may have sparse gradients, each of which that wrapper refuses
    or wants told beforehand. What it gains by sending while backward still runs is given up.
    """
    if world() == 1:
        return
    held = list(parameters)
    there = torch.tensor([[p.grad is not None, p.grad is not None and p.grad.is_sparse] for p in held], dtype=torch.int64)
    dist.all_reduce(there)
    dense: list[Tensor] = []
    for parameter, (some, sparse) in zip(held, there.tolist(), strict=True):
        if sparse:
            parameter.grad = _mean_of_sparse(parameter)
        elif some:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            dense.append(parameter.grad)
    for bucket in _buckets(dense):
        flat = torch.cat([grad.flatten() for grad in bucket])
        dist.all_reduce(flat)
        flat /= world()
        for grad, part in zip(bucket, torch.split(flat, [grad.numel() for grad in bucket]), strict=True):
            grad.copy_(part.view_as(grad))


def _buckets(grads: list[Tensor]) -> Iterator[list[Tensor]]:
    """Gradients of one type that together hold at most ``BUCKET`` numbers, or a single larger one."""
    bucket: list[Tensor] = []
    for grad in grads:
        if bucket and (grad.dtype != bucket[0].dtype or sum(g.numel() for g in bucket) + grad.numel() > BUCKET):
            yield bucket
            bucket = []
        bucket.append(grad)
    if bucket:
        yield bucket


def _mean_of_sparse(parameter: nn.Parameter) -> Tensor:
    """The rows of all processes; only these travel."""
    grad = parameter.grad
    if grad is None:
        rows, values = parameter.new_zeros(0, dtype=torch.int64), parameter.new_zeros((0, *parameter.shape[1:]))
    else:
        grad = grad.coalesce()
        rows, values = grad.indices()[0], grad.values()
    layout = shards(len(rows), rows.device)
    rows, values = layout.gather(rows), layout.gather(values) / world()
    return torch.sparse_coo_tensor(rows.unsqueeze(0), values, parameter.shape, check_invariants=False).coalesce()


@torch.no_grad()
def same_state(module: nn.Module, *, buffers_only: bool = False) -> None:
    """Give a module the first process's parameters and buffers (those of its state dict), or the buffers alone."""
    if world() == 1:
        return
    parameters = {name for name, _ in module.named_parameters()} if buffers_only else set()
    for name, tensor in module.state_dict().items():
        if name not in parameters:
            dist.broadcast(tensor.view(torch.uint8) if tensor.dtype == torch.bool else tensor, 0)
