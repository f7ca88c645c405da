"""Checkpoints: nested state in one safetensors file and one JSON file, in a folder that is there whole or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from safetensors.torch import load, load_file, save, save_file
from torch import Tensor

from embedkit.errors import BundleError
from embedkit.files import atomic_folder, remove_leftovers
from embedkit.nn.gather import world
from embedkit.training.distributed import collect

FORMAT = 2


def pack(state: Any) -> tuple[Any, dict[str, Tensor]]:
    """Split nested dicts, lists, tuples, numbers, strings and tensors into a JSON value and named tensors.

    Tensors that are one and the same are kept once. Containers are tagged, so that tuples and keys that are numbers come back.
    """
    tensors: dict[str, Tensor] = {}
    seen: dict[int, str] = {}

    def walk(value: Any, path: str) -> Any:
        if isinstance(value, Tensor):
            if id(value) not in seen:
                seen[id(value)] = path
                tensors[path] = value.detach().to("cpu", copy=True).contiguous()
            return {"tensor": seen[id(value)]}
        if isinstance(value, dict):
            return {"dict": [[key, walk(item, f"{path}.{key}" if path else str(key))] for key, item in value.items()]}
        if isinstance(value, (list, tuple)):
            kind = "list" if isinstance(value, list) else "tuple"
            return {kind: [walk(item, f"{path}.{i}") for i, item in enumerate(value)]}
        if value is None or isinstance(value, (bool, int, float, str)):
            return {"value": value}
        raise TypeError(f"{path}: a state may hold numbers, strings, tensors, lists and dicts, not {type(value).__name__}")

    return walk(state, ""), tensors


def unpack(skeleton: Any, tensors: dict[str, Tensor]) -> Any:
    """Turn what ``pack`` returned into the state again."""
    (tag, body), *_ = skeleton.items()
    if tag == "tensor":
        return tensors[body]
    if tag == "dict":
        return {key: unpack(item, tensors) for key, item in body}
    if tag == "value":
        return body
    items = [unpack(item, tensors) for item in body]
    return items if tag == "list" else tuple(items)


def write_state(path: Path, state: Any, *, replace: bool = False) -> None:
    """Write a state as the folder ``path``: beside it first, flushed to disk, then renamed.

    Raises:
        DataError: the disk is full.
    """
    skeleton, tensors = pack(state)
    with atomic_folder(path, replace=replace) as beside:
        save_file(tensors, beside / "state.safetensors")
        (beside / "state.json").write_text(json.dumps({"format": FORMAT, "state": skeleton}))


def read_state(path: Path) -> Any:
    """Read what ``write_state`` wrote.

    Raises:
        BundleError: it is damaged.
    """
    try:
        head = json.loads((path / "state.json").read_text())
        tensors = load_file(path / "state.safetensors")
    except Exception as error:
        raise BundleError(f"{path}: this checkpoint cannot be read ({error}); remove the folder, an older one is used then") from error
    if head.get("format") != FORMAT:
        raise BundleError(f"{path}: this checkpoint has format {head.get('format')}, wanted {FORMAT}: start the run again")
    return unpack(head["state"], tensors)


def collect_states(state: Any) -> list[Any]:
    """The states of all processes that train together, in the order of their ranks."""
    if world() == 1:
        return [state]
    skeleton, tensors = pack(state)
    head = json.dumps(skeleton).encode()
    found = []
    for part in collect(len(head).to_bytes(8, "little") + head + save(tensors)):
        size = 8 + int.from_bytes(part[:8], "little")
        found.append(unpack(json.loads(part[8:size]), load(part[size:])))
    return found


class Checkpoints:
    """The checkpoints of one stage: ``step-N`` folders, the last two kept, and the best weights that they refer to.

    Args:
        folder: of the stage.
    """

    KEEP = 2

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def clear(self) -> None:
        """Remove everything: a fresh start."""
        if self.folder.exists():
            shutil.rmtree(self.folder)

    def newest(self) -> Path | None:
        """The folder of the last checkpoint."""
        steps = self._steps()
        return steps[-1] if steps else None

    def save(self, step: int, state: dict[str, Any], best: int | None) -> None:
        """Write a checkpoint, then remove those that nobody needs. ``best``: step of the best weights so far."""
        path = self.folder / f"step-{step:09d}"
        if not path.exists():
            remove_leftovers(path)
            write_state(path, {**state, "best": best})
        kept = self._steps()[-self.KEEP :]
        self._remove(old for old in self._steps() if old not in kept)
        needed = {best} | {_best_of(one) for one in kept}
        self._remove(old for old in self._bests() if int(old.name[5:]) not in needed)

    def save_best(self, step: int, model: dict[str, Tensor]) -> None:
        """Keep weights as the best so far; older ones go with the checkpoints that refer to them."""
        write_state(self.folder / f"best-{step:09d}", model, replace=True)

    def load_best(self, step: int) -> dict[str, Tensor]:
        """The best weights."""
        found: dict[str, Tensor] = read_state(self.folder / f"best-{step:09d}")
        return found

    def finish(self, model: dict[str, Tensor], result: dict[str, Any]) -> None:
        """Keep the stage's final weights and result, then remove the checkpoints."""
        write_state(self.folder / "done", {"model": model, "result": result}, replace=True)
        self._remove([*self._steps(), *self._bests()])

    def finished(self) -> dict[str, Any] | None:
        """What ``finish`` kept, if the stage ended."""
        path = self.folder / "done"
        if not path.exists():
            return None
        found: dict[str, Any] = read_state(path)
        return found

    def _steps(self) -> list[Path]:
        return sorted(self.folder.glob("step-*"))

    def _bests(self) -> list[Path]:
        return sorted(self.folder.glob("best-*"))

    @staticmethod
    def _remove(paths: Iterable[Path]) -> None:
        for path in paths:
            shutil.rmtree(path)


def _best_of(path: Path) -> int | None:
    """Step of the best weights that a checkpoint refers to, without reading its tensors."""
    body = json.loads((path / "state.json").read_text())["state"]["dict"]
    found: int | None = next(value["value"] for key, value in body if key == "best")
    return found
