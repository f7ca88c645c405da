"""Warm start: the weights of an older model in one whose vocabularies have grown (``init_from``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from embedkit.errors import UsageError
from embedkit.nn.model import Model

if TYPE_CHECKING:
    from embedkit.data.vocabulary import Vocabulary


def old_codes(old: Vocabulary, new: Vocabulary) -> Tensor:
    """The code that each code of a vocabulary had in an older one: int64 [new.size], -1 for values that the older one lacks."""
    codes = torch.from_numpy(old.encode(new.values))
    return torch.cat([torch.zeros(1, dtype=torch.int64), codes.masked_fill(codes == 0, -1)])


def warm_start(model: Model, state: Mapping[str, Tensor], rows: Mapping[str, Tensor]) -> None:
    """Load an older model's state dict; table rows follow their values, new values keep the fresh weights that they have.

    Args:
        model: built from the same components with the same options.
        state: state dict of the older model.
        rows: domain → ``old_codes`` of its vocabulary; domains left out have not changed.

    Raises:
        UsageError: the models differ in more than their vocabularies; names the first tensor that does not fit.
    """
    fitted = dict(state)
    for name in model.encoders:
        prefix = f"encoders.{model.encoders.key(name)}."
        part = {key[len(prefix) :]: fitted.pop(key) for key in list(fitted) if key.startswith(prefix)}
        fitted |= {prefix + key: value for key, value in model.encoders[name].resize_state(part, rows).items()}
    own = model.state_dict()
    for key in sorted(own.keys() | fitted.keys()):
        here, there = own.get(key), fitted.get(key)
        if here is None or there is None or here.shape != there.shape:
            raise UsageError(
                f"the older model cannot be continued: '{key}' is {_shape(there)} there and {_shape(here)} here; "
                "keep its components, fields and options, or start anew"
            )
    model.load_state_dict(fitted)


def _shape(tensor: Tensor | None) -> str:
    return "absent" if tensor is None else f"of shape {list(tensor.shape)}"
