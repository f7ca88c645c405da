"""Types for options that name something in the run file, so that a misspelt name is found before anything is read.

An option class says ``query: TowerName``; ``embedkit.config.resolve`` then checks it against the run file, for every component.
``None``, lists and defaults work as with ``str``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel

Kind = Literal["tower", "view", "field", "table"]


@dataclass(frozen=True)
class Refers:
    """Marks a string as the name of something in the run file."""

    to: Kind


TowerName = Annotated[str, Refers("tower")]
"""A tower's name."""
ViewName = Annotated[str, Refers("view")]
"""The name of a stream or view of the stage."""
FieldName = Annotated[str, Refers("field")]
"""A field's name."""
TableName = Annotated[str, Refers("table")]
"""A table's name."""


def references(config: BaseModel) -> Iterator[tuple[str, Kind, str]]:
    """The names that options hold: (option, kind, name)."""
    for option, info in type(config).model_fields.items():
        marks = [m for m in info.metadata if isinstance(m, Refers)] or list(_marks(info.annotation))
        for name in _strings(getattr(config, option)) if marks else ():
            yield option, marks[0].to, name


def _marks(annotation: Any) -> Iterator[Refers]:
    if get_origin(annotation) is Annotated:
        yield from (m for m in annotation.__metadata__ if isinstance(m, Refers))
    for argument in get_args(annotation):
        yield from _marks(argument)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _strings(one)
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from _strings(one)
