"""Component: the base of every class that a plugin registers. No torch here."""

from __future__ import annotations

from abc import ABC
from typing import Any

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """Base of every component's options: frozen, unknown keys refused. Give each field a ``description``: the CLI prints it."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Component(ABC):  # noqa: B024 - abstract by role; each kind's base names its own abstract methods
    """Base of every registered class.

    Args:
        config: an instance of the configuration class it was registered with; frozen.
        context: what only data or the surrounding model can tell; its class is documented with each kind.
    """

    def __init__(self, config: Any, *, context: Any) -> None:
        super().__init__()
        self.config = config
        self.context = context
