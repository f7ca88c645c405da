"""Turn pydantic's errors into one sentence each: file, key path, what was found, what was wanted, what to do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from embedkit.registry import suggest


def problems(error: ValidationError, model: type[BaseModel], *, where: str, owner: str = "") -> list[str]:
    """One sentence for each thing that is wrong.

    Args:
        error: what pydantic raised.
        model: the class that was validated, for suggestions.
        where: what stands before the key path, such as ``run.toml: stages.0``.
        owner: what the options belong to, such as ``loss 'info_nce'``.
    """
    lines: list[str] = []
    for detail in error.errors(include_url=False):
        line = _sentence(detail, model, where, owner)
        if line not in lines:
            lines.append(line)
    return lines


def _sentence(detail: ErrorDetails, model: type[BaseModel], where: str, owner: str) -> str:
    location = [part for part in detail["loc"] if not _is_branch(part)]
    path = ".".join(str(part) for part in location)
    at = f"{where}{'.' if where and path and not where.endswith(': ') else ''}{path}"
    kind, found = detail["type"], detail.get("input")
    if kind == "extra_forbidden":
        known = _keys(model, location[:-1])
        of = f" of {owner}" if owner else ""
        hint = suggest(str(location[-1]), known)
        listed = f"; known keys are {', '.join(sorted(known))}" if known and not hint else ""
        return f"{at}: unknown key '{location[-1]}'{of}{hint}{listed}"
    if kind == "missing":
        return f"{at}: is required{' by ' + owner if owner else ''} and is not there"
    if kind == "value_error":
        return f"{at}: {detail['ctx']['error'] if 'ctx' in detail else detail['msg']}"
    return f"{at}: found {_short(found)}, but {_want(detail)}"


def _want(detail: ErrorDetails) -> str:
    message = detail["msg"]
    return message[0].lower() + message[1:]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _is_branch(part: int | str) -> bool:
    """Pydantic puts the branch of a union into the path; a key of a file never has these characters."""
    return isinstance(part, str) and any(c in part for c in "[](")


def _keys(model: type[BaseModel], path: list[int | str]) -> list[str]:
    """The keys that the model at ``path`` knows, as they are written in a file."""
    current: Any = model
    for part in path:
        current = _step(current, part)
        if current is None:
            return []
    if not (isinstance(current, type) and issubclass(current, BaseModel)):
        return []
    return [field.alias or name for name, field in current.model_fields.items()]


def _step(model: Any, part: int | str) -> Any:
    if isinstance(model, type) and issubclass(model, BaseModel):
        fields: Mapping[str, Any] = model.model_fields
        for name, field in fields.items():
            if part in (name, field.alias):
                return _model_in(field.annotation)
        return None
    return model


def _model_in(annotation: Any) -> Any:
    """The model class inside ``X``, ``list[X]``, ``dict[str, X]`` or ``X | None``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _model_in(argument)
        if found is not None:
            return found
    return None
