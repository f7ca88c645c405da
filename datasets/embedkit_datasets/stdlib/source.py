"""Which source files make up the library, and what each is called. Nothing is imported."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from embedkit.errors import DataError

LEFT_OUT = {
    "test": "the interpreter's own tests",
    "tests": "tests kept inside a package",
    "idlelib": "an application, with its tests",
    "turtledemo": "demonstrations",
    "lib2to3": "a program with a grammar and test data, gone in Python 3.13",
    "ensurepip": "an installer around a bundled wheel",
    "pydoc_data": "generated help topics",
    "__phello__": "a test of frozen modules",
    "site-packages": "not part of the library",
    "dist-packages": "not part of the library",
    "__pycache__": "no source",
}
"""Folders that are not read, wherever they stand, and why."""


@dataclass(frozen=True)
class Module:
    """One parsed source file: dotted name, whether it is a package's ``__init__``, syntax tree."""

    name: str
    is_package: bool
    tree: ast.Module

    @property
    def package(self) -> str:
        """The package that relative imports start from."""
        return self.name if self.is_package else self.name.rpartition(".")[0]


def _wanted(parts: tuple[str, ...]) -> bool:
    if any(part in LEFT_OUT for part in parts[:-1]) or parts[0].startswith("config-"):
        return False  # config-… holds build scripts
    if parts[0].startswith("_sysconfigdata"):
        return False  # this build's compiler flags and paths
    # the codec modules are generated tables, a hundred copies of one file; the package itself stays
    return parts[0] != "encodings" or parts[-1] in ("__init__.py", "aliases.py")


def read_modules(root: Path) -> Iterator[Module]:
    """Parse the library under ``root``, in order of dotted name.

    Raises:
        DataError: the folder holds no Python source, or a file cannot be parsed.
    """
    found: list[tuple[str, Path]] = []
    for path in root.rglob("*.py"):
        parts = path.relative_to(root).parts
        if _wanted(parts):
            dotted = parts[:-1] if parts[-1] == "__init__.py" else (*parts[:-1], parts[-1][:-3])
            if dotted and all(part.isidentifier() for part in dotted):
                found.append((".".join(dotted), path))
    if not found:
        raise DataError(f"{root}: no Python source files here; this interpreter's standard library is not installed as source")
    for name, path in sorted(found):
        try:
            tree = ast.parse(path.read_bytes(), filename=str(path))
        except (SyntaxError, ValueError, OSError) as error:
            raise DataError(f"{path}: cannot be parsed as Python source ({error})") from error
        yield Module(name, path.name == "__init__.py", tree)
