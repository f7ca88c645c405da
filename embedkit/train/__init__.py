"""One train loop, and what it reads: steps, losses, schedules, checkpoints, reports.

``embedkit.train(run)`` is the function of the Python interface. Importing this package puts the package in that place,
as Python does
with every subpackage; so the package can be called, and is then the function.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _Callable(ModuleType):
    """A module that is ``embedkit.api.train`` when it is called."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Train what a run file says; see ``embedkit.api.train``."""
        from embedkit.api import train

        return train(*arguments, **options)


sys.modules[__name__].__class__ = _Callable
