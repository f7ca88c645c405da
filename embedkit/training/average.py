"""Average: a moving average of the weights that are trained, and their exchange (Polyak and Juditsky 1992; exponential weights)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from embedkit.config.model import AverageConfig
from embedkit.training.networks import approach
from embedkit.training.schedule import Clock


class Average:
    """The average of a stage's trained parameters, those of losses included; does nothing where the run file asks for none.

    It starts as the weights that the stage starts with. Buffers and frozen parameters are not averaged: the model's own serve both.

    Args:
        config: its options; None for no average.
        parameters: the trained ones by name.
    """

    def __init__(self, config: AverageConfig | None, parameters: Mapping[str, nn.Parameter]) -> None:
        self._config = config
        self._parameters = dict(parameters) if config is not None else {}
        self._weights = {name: p.detach().clone() for name, p in self._parameters.items()}

    def update(self, clock: Clock) -> None:
        """Move it towards the weights after an optimiser step: ``a = m a + (1 - m) w``."""
        if self._config is not None:
            approach(list(self._weights.values()), list(self._parameters.values()), clock.value(self._config.momentum))

    @contextmanager
    def shown(self) -> Iterator[None]:
        """The model holds the average inside; afterwards it holds the weights that are trained again."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def keep(self) -> None:
        """Write the average into the model for good: training has ended."""
        for name, weight in self._weights.items():
            self._parameters[name].copy_(weight)

    def _exchange(self) -> None:
        # The storages change places: nothing is copied, and the optimisers still know the parameters.
        for name, parameter in self._parameters.items():
            parameter.data, self._weights[name] = self._weights[name], parameter.data

    @property
    def nbytes(self) -> int:
        """Bytes that it holds."""
        return sum(weight.numel() * weight.element_size() for weight in self._weights.values())

    def state_dict(self) -> dict[str, Tensor]:
        """The averaged weights by name."""
        return dict(self._weights)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take what ``state_dict`` returned."""
        for name, weight in self._weights.items():
            weight.copy_(state[name])
