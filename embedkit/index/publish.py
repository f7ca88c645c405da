"""Generations: a new index is complete and tested in a folder of its own before ``CURRENT`` names it.

A reader always finds a whole generation, whenever a build is killed: the old one until ``CURRENT`` is replaced, the new
    one after.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from embedkit.errors import BundleError
from embedkit.files import atomic_write

CURRENT = "CURRENT"
_NAME = re.compile(r"\d{6}")


def generations(out: Path) -> list[str]:
    """Names of the whole generations, oldest first."""
    return sorted(p.name for p in out.iterdir() if p.is_dir() and _NAME.fullmatch(p.name)) if out.is_dir() else []


def next_generation(out: Path) -> str:
    """The name that a new generation gets."""
    last = max((int(name) for name in generations(out)), default=0)
    return f"{last + 1:06d}"


def current_generation(out: Path) -> str:
    """The generation that readers use.

    Raises:
        BundleError: there is no index in the folder.
    """
    path = out / CURRENT
    if not path.is_file():
        raise BundleError(f"{out}: holds no index (no {CURRENT}); build one with `embedkit index`")
    name = path.read_text().strip()
    if not _NAME.fullmatch(name) or not (out / name).is_dir():
        raise BundleError(f"{path}: names generation '{name}', which is not there; build the index again")
    return name


def publish(out: Path, name: str) -> None:
    """Make a whole generation the current one; remove all but it and the one before, which readers may be opening."""
    before = (out / CURRENT).read_text().strip() if (out / CURRENT).is_file() else None
    atomic_write(out / CURRENT, name + "\n")
    for old in generations(out):
        if old not in (name, before):
            shutil.rmtree(out / old, ignore_errors=True)
