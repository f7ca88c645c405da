"""Warm start: weights of a bundle in a model whose vocabulary may have grown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from embedkit.errors import UsageError
from embedkit.nn.model import Model


@dataclass(frozen=True)
class Carried:
    """What a warm start did: names of tensors copied whole, grown (with the rows copied and the rows now), new and left over."""

    copied: tuple[str, ...]
    grown: Mapping[str, tuple[int, int]]
    fresh: tuple[str, ...]
    unused: tuple[str, ...]

    def text(self) -> str:
        """One line for people."""
        rows = ", ".join(f"{name} {old} → {new} rows" for name, (old, new) in self.grown.items())
        parts = [f"{len(self.copied)} tensors taken over"]
        parts += [f"grown: {rows}"] if rows else []
        parts += [f"new: {', '.join(self.fresh)}"] if self.fresh else []
        parts += [f"not used: {', '.join(self.unused)}"] if self.unused else []
        return "; ".join(parts)


@torch.no_grad()
def carry_over(model: Model, old: Mapping[str, Tensor], *, where: str) -> Carried:
    """Copy a bundle's weights into a new model.

    A vocabulary that grew keeps its old codes and appends new ones, so the first rows of a grown table are the old table's; the rows
    of new values stay as they were drawn. Hashed tables do not grow and are copied as they are.

    Args:
        model: the new model; changed in place.
        old: the bundle's state dict.
        where: of the bundle in messages.

    Raises:
        UsageError: a tensor has another shape for another reason than growth.
    """
    tables = {id(p) for encoder in model.encoders.values() for p in encoder.growing_tables()}
    derived = model.derived()
    kept = model.state_dict().keys() - derived
    own = {name: weight for name, weight in (*model.named_parameters(), *model.named_buffers()) if name in kept}
    copied: list[str] = []
    grown: dict[str, tuple[int, int]] = {}
    for name, weight in own.items():
        source = old.get(name)
        if source is None:
            continue
        if source.shape == weight.shape:
            weight.copy_(source)
            copied.append(name)
        elif id(weight) in tables and source.shape[1:] == weight.shape[1:] and source.shape[0] < weight.shape[0]:
            weight[: source.shape[0]].copy_(source)
            grown[name] = (source.shape[0], weight.shape[0])
        else:
            raise UsageError(
                f"init_from {where}: '{name}' has shape {list(source.shape)} there and {list(weight.shape)} here: "
                "keep the model's options as they were there, or leave init_from out"
            )
    if not copied and not grown:
        raise UsageError(f"init_from {where}: the bundle's model has no tensor in common with this one")
    model.load_state_dict(model.state_dict())  # what modules derive from their state when they load it, they now derive from the old one
    fresh = tuple(name for name in own if name not in old)
    return Carried(tuple(copied), grown, fresh, tuple(name for name in old if name not in own and name not in derived))
