"""What the compiled modules offer (``builtins``, ``math``, ``_struct``, …), asked of a fresh interpreter.

They have no source to parse, so they must be imported and inspected. A child process does it: importing ``readline`` or ``_curses``
here would change this process, and a program that patched ``builtins`` would change the answer.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from embedkit.errors import DataError

_MARK = "embedkit-compiled-modules:"

_PROBE = r"""
import importlib, importlib.machinery, inspect, json, sys

def signature(obj):
    try:
        parameters = inspect.signature(obj).parameters.values()
    except (TypeError, ValueError, AttributeError):  # no signature, or a default that the module sets later
        return None
    return [[p.name, p.kind.name, p.default is not p.empty] for p in parameters]

def entry(obj, kind):
    doc = obj.__doc__ if isinstance(obj.__doc__, str) else None
    return {"kind": kind, "doc": doc, "signature": signature(obj)}

def members(cls):
    out = {}
    for name, value in sorted(vars(cls).items()):
        if name.startswith("_"):
            continue
        target = getattr(value, "__func__", value)
        if callable(target) and not isinstance(target, type):
            out[name] = entry(getattr(cls, name), "method")
    return out

def module(name):
    mod = importlib.import_module(name)
    out = {"doc": mod.__doc__, "members": {}}
    for key, value in sorted(vars(mod).items()):
        if key.startswith("__") and key != "__import__" and key != "__build_class__":
            continue
        if isinstance(value, type):
            item = entry(value, "class")
            item["qualname"] = value.__module__ + "." + value.__qualname__
            item["bases"] = [b.__module__ + "." + b.__qualname__ for b in value.__mro__[1:] if b is not object]
            item["methods"] = members(value)
            out["members"][key] = item
        elif callable(value) and getattr(value, "__module__", name) is not None and inspect.isroutine(value):
            out["members"][key] = entry(value, "function")
    return out

compiled = set(sys.builtin_module_names)
for name in sys.stdlib_module_names:
    spec = importlib.machinery.PathFinder.find_spec(name)
    if spec is not None and isinstance(spec.loader, importlib.machinery.ExtensionFileLoader):
        compiled.add(name)
found = {}
for name in sorted(compiled & set(sys.stdlib_module_names)):
    try:
        found[name] = module(name)
    except ImportError:
        pass  # built for a library that this machine lacks: the module does not exist here
print("\n" + MARK + json.dumps(found))
"""


@dataclass(frozen=True)
class Compiled:
    """Compiled modules by name: ``{"doc", "members": {name: {"kind", "doc", "signature", "bases", "methods"}}}``."""

    modules: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def probe_compiled() -> Compiled:
    """Ask a fresh interpreter of the same executable, without site packages.

    Raises:
        DataError: the child process fails.
    """
    command = [sys.executable, "-I", "-S", "-c", f"MARK = {_MARK!r}\n{_PROBE}"]
    environment = {**os.environ, "TERM": "dumb"}  # readline would print control codes
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", stdin=subprocess.DEVNULL, env=environment)
    line = next((x for x in reversed(done.stdout.splitlines()) if x.startswith(_MARK)), None)
    if done.returncode != 0 or line is None:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise DataError(f"{sys.executable}: listing its compiled modules failed ({last}); run it by hand to see why")
    return Compiled(json.loads(line.removeprefix(_MARK)))
