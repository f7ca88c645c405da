"""embedkit: tables of things in, trained vectors and a nearest-neighbour index out; every part is a plugin.

The public names are loaded on first use (PEP 562), so that ``import embedkit`` costs nothing but pluggy's marker.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import pluggy

from embedkit._version import __version__

if TYPE_CHECKING:
    from embedkit.api import compare, load, open_index, report, train, tune
    from embedkit.errors import BundleError, DataError, EmbedkitError, PluginError, SpaceMismatch, UsageError

hookimpl = pluggy.HookimplMarker("embedkit")
"""Marks a plugin's hook functions."""

_LAZY = {
    **dict.fromkeys(("compare", "load", "open_index", "report", "train", "tune"), "embedkit.api"),
    **dict.fromkeys(("BundleError", "DataError", "EmbedkitError", "PluginError", "SpaceMismatch", "UsageError"), "embedkit.errors"),
}

__all__ = [
    "BundleError",
    "DataError",
    "EmbedkitError",
    "PluginError",
    "SpaceMismatch",
    "UsageError",
    "__version__",
    "compare",
    "hookimpl",
    "load",
    "open_index",
    "report",
    "train",
    "tune",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
