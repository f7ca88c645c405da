"""``--set key.path=value``: change a run file from the command line."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from typing import Any

from embedkit.errors import UsageError, suggest

Path = tuple[str, ...]


def apply_overrides(
    data: dict[str, Any], overrides: Iterable[str], flag: str = "--set", example: str = "seed=3 or stages.0.epochs=5"
) -> None:
    """Change ``data`` in place, in the order given.

    ``a.b.0.c=value``: keys are parted by dots (quote a key that holds one), numbers index lists, an index one past the end appends,
    tables that are missing are made (a list where the index 0 follows). Values are TOML; a bare word is a string.

    Args:
        data: what is changed.
        overrides: ``key.path=value`` each.
        flag: the command's option that they came by, for messages.
        example: of an override, for messages.

    Raises:
        UsageError: an override cannot be read, or leads through something that is no table or list.
    """
    for text in overrides:
        said = f"{flag} {text}"
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"{said}: write KEY=VALUE, such as {example}")
        _assign(data, _path(key.strip(), said), _value(value.strip(), said), said)


def _path(key: str, said: str) -> Path:
    try:
        current: Any = tomllib.loads(f"{key} = 0")
    except tomllib.TOMLDecodeError:
        current = None
    path: list[str] = []
    while isinstance(current, dict) and len(current) == 1 and "\n" not in key:
        part, current = next(iter(current.items()))
        path.append(part)
    if current != 0:  # it is no key, or more than one (a comment, a line break)
        raise UsageError(f"{said}: '{key}' is no key path such as model.dim or stages.0.losses.1.weight")
    return tuple(path)


def _value(value: str, said: str) -> Any:
    try:
        found = tomllib.loads(f"value = {value}")
    except tomllib.TOMLDecodeError:
        found = {}
    if len(found) == 1:
        return found["value"]
    if not value or value[0] in "[{\"'" or "\n" in value:
        raise UsageError(f"{said}: '{value}' is no TOML value such as 3, true, 'word' or [1, 2]")
    return value


def _assign(data: dict[str, Any], path: Path, value: Any, said: str) -> None:
    current: Any = data
    for depth, part in enumerate(path):
        here = ".".join(path[:depth]) or "the run file"
        last = depth == len(path) - 1
        if isinstance(current, list):
            current = _into_list(current, part, value if last else None, last, here, said)
        elif isinstance(current, dict):
            if last:
                current[part] = value
            else:
                current = current.setdefault(part, [] if path[depth + 1] == "0" else {})
        else:
            raise UsageError(f"{said}: {here} is the value {current!r}, so nothing can stand under it")


def _into_list(current: list[Any], part: str, value: Any, last: bool, here: str, said: str) -> Any:
    """Step into an entry of a list, or set it; an entry may also be called by its name (``name``, or ``use``)."""
    index = int(part) if part.isdecimal() else _named(current, part)
    if index is None:
        names = [str(entry.get("name", entry.get("use"))) for entry in current if isinstance(entry, dict)]
        raise UsageError(f"{said}: {here} is a list: give an index, not '{part}'{suggest(part, names)}")
    if index > len(current):
        raise UsageError(f"{said}: {here} has {len(current)} entries, so index {index} is out of range ({len(current)} appends)")
    if index == len(current):
        current.append({})
    if last:
        current[index] = value
    return current[index]


def _named(current: list[Any], part: str) -> int | None:
    """The index of the one entry with this ``name`` or ``use``."""
    found = [i for i, entry in enumerate(current) if isinstance(entry, dict) and part in (entry.get("name"), entry.get("use"))]
    return found[0] if len(found) == 1 else None
