"""Forwards in pieces: the rows of a view a few at a time, with the gradients of the whole batch and the memory of one piece.

The same gradients as gradient caching (Gao et al. 2021, "Scaling deep contrastive learning batch size under memory limited setup"),
which runs every piece twice by hand: here each piece is a checkpoint (Chen et al. 2016), computed again when backward reaches it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from embedkit.data.batch import Batch
from embedkit.data.columns import Column
from embedkit.errors import PluginError, UsageError
from embedkit.nn.model import Model
from embedkit.nn.values import Outputs, Tokens, stack_rows
from embedkit.views import View


def forward_in_pieces(model: Model, view: View, tower: str, rows: int, *, layers: tuple[int, ...] = (), tokens: bool = False) -> Outputs:
    """The outputs of a tower for a view, at most ``rows`` of its rows (users of windows) in a forward.

    Dropout is the same when a piece is computed again. Where no gradient is wanted, nothing is computed again.

    Args:
        model: whose forward it is.
        view: the batch.
        tower: which tower.
        rows: of a piece.
        layers: depths whose token states are wanted.
        tokens: keep the tokens of all pieces, padded to the longest; False: reading them is an error, and they take no memory.
    """
    names = [field.name for field in model.spec.schema.tower_fields(tower) if field.name in view.batch.columns]
    if not names or len(view.batch.columns[names[0]]) <= rows:
        return cast(Outputs, model(view, tower, layers=layers))
    if view.mix is not None:
        raise UsageError(
            f"tower '{tower}': rows of a mixed view need other rows of their batch, so forward_rows cannot cut it: leave it out"
        )

    def run(piece: View) -> Outputs:
        found: Outputs = model(piece, tower, layers=layers)
        return found if tokens else replace(found, tokens=cast(Tokens, _NotKept(tower)))

    parts: list[Outputs] = []
    for piece in cut(view, names, rows):
        if torch.is_grad_enabled():
            # The generators' states are kept for the devices of the tensors among the arguments, and a view is no tensor.
            device = piece.batch.columns[names[0]].values
            parts.append(checkpoint(lambda piece, _: run(piece), piece, device, use_reentrant=False))
        else:
            parts.append(run(piece))
    return _together(parts, tokens)


def refuse_batch_statistics(model: nn.Module, *, where: str) -> None:
    """Raise ``UsageError`` when a module's output depends on the other rows of a batch: in pieces it would be another model."""
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm):
            raise UsageError(
                f"{where}.forward_rows: '{name}' normalises over the rows of a batch, so the batch cannot be cut into pieces: "
                "leave forward_rows out, or use a trunk with layer norm"
            )


def cut(view: View, names: list[str], rows: int) -> Iterator[View]:
    """A view as contiguous pieces of at most ``rows`` rows, with the columns of these fields, which have one length."""
    columns = {name: view.batch.columns[name] for name in names}
    length = len(columns[names[0]])
    starts = [*range(0, length, rows), length]
    at = {name: _bounds(column, starts) for name, column in columns.items()}
    for i, (start, stop) in enumerate(pairwise(starts)):
        inside = {name: slice(*bounds[i : i + 2]) for name, bounds in at.items()}
        batch = Batch(
            {name: _slice(column, slice(start, stop), inside[name]) for name, column in columns.items()},
            _of_rows(view.batch.rows, length, start, stop),
            _of_rows(view.batch.labels, length, start, stop),
            window=view.batch.window,
            asks=view.batch.asks,
        )
        hidden = {name: mask[start:stop] for name, mask in view.hidden.items() if name in columns}
        values = {name: mask[inside[name]] for name, mask in view.hidden_values.items() if name in columns}
        yield replace(view, batch=batch, hidden=hidden, hidden_values=values, origin=None)


def _bounds(column: Column, starts: list[int]) -> list[int]:
    """Where the values of these rows begin."""
    if column.offsets is None:
        return starts
    found: list[int] = column.offsets.index_select(0, torch.tensor(starts, device=column.offsets.device)).tolist()
    return found


def _slice(column: Column, rows: slice, values: slice) -> Column:
    present = None if column.present is None else column.present[rows]
    if column.offsets is None:
        return Column(column.values[rows], None, present)
    return Column(column.values[values], column.offsets[rows.start : rows.stop + 1] - values.start, present)


def _of_rows(tensors: Mapping[str, Tensor], length: int, start: int, stop: int) -> dict[str, Tensor]:
    """Those that have one entry a row of the tower: of windows, others count users or positions."""
    return {name: x[start:stop] for name, x in tensors.items() if x.shape[0] == length}


def _together(parts: list[Outputs], tokens: bool) -> Outputs:
    first = parts[0]
    return Outputs(
        stack_rows([part.tokens for part in parts]) if tokens else first.tokens,
        torch.cat([part.pooled for part in parts]),
        torch.cat([part.embedding for part in parts]),
        torch.cat([part.raw for part in parts]),
        first.prefixes,
        first.normalized,
        {depth: stack_rows([replace(part.tokens, x=part.layers[depth]) for part in parts]).x for depth in first.layers},
    )


class _NotKept:
    """Stands for tokens that no loss said it would read."""

    def __init__(self, tower: str) -> None:
        self._tower = tower

    def __getattr__(self, name: str) -> Tensor:
        if name.startswith("__"):
            raise AttributeError(name)
        raise PluginError(
            f"a loss reads the tokens of tower '{self._tower}', which are not kept where forward_rows cuts a batch: "
            "its Forward must say tokens = True"
        )
