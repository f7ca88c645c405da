"""Turn pydantic's errors into one sentence each: file, key path, what was found, what was wanted, what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, TypeGuard, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from embedkit.errors import UsageError, suggest

Key = int | str


class Problems:
    """Collects what is wrong, so that a person sees all of it at once."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.lines: list[str] = []

    def add(self, path: str, message: str) -> None:
        """Add one sentence about a key path."""
        line = f"{self.where}: {path}: {message}"
        if line not in self.lines:
            self.lines.append(line)

    def extend(self, error: UsageError) -> None:
        """Add the sentences of an error that was raised with its place."""
        self.lines.extend(line for line in str(error).split("\n") if line not in self.lines)

    def raise_any(self) -> None:
        """Raise a ``UsageError`` with every sentence, a line each, when there is one."""
        if self.lines:
            raise UsageError("\n".join(self.lines))


def problems(error: ValidationError, model: type[BaseModel], *, where: str, owner: str = "") -> list[str]:
    """One sentence for each thing that is wrong.

    Args:
        error: what pydantic raised.
        model: the class that was validated, for suggestions.
        where: what stands before the key path, such as ``run.toml: stages.0``.
        owner: what the options belong to, such as ``loss 'info_nce'``.
    """
    lines: list[str] = []
    for fault in _faults(error, model):
        line = _sentence(fault, where, owner)
        if line not in lines:
            lines.append(line)
    return lines


@dataclass
class _Fault:
    """One thing that is wrong; a value that fits no branch of a union has one detail a branch."""

    path: tuple[Key, ...]
    known: list[str]
    details: list[ErrorDetails]


def _faults(error: ValidationError, model: type[BaseModel]) -> list[_Fault]:
    """Errors by key path, the branches of a union brought together.

    Where a table was written and a branch takes tables, only what is wrong inside the table is told.
    """
    faults: dict[tuple[Key, ...], _Fault] = {}
    for detail in error.errors(include_url=False):
        path, known = _locate(model, detail["loc"])
        faults.setdefault(path, _Fault(path, known, [])).details.append(detail)
    deeper = {path[:i] for path in faults for i in range(len(path))}
    return [fault for path, fault in faults.items() if path not in deeper or not isinstance(fault.details[0].get("input"), Mapping)]


def _sentence(fault: _Fault, where: str, owner: str) -> str:
    detail, path = fault.details[0], ".".join(str(part) for part in fault.path)
    at = f"{where}{'.' if where and path and not where.endswith(': ') else ''}{path}"
    of = f" of {owner}" if owner else ""
    kind = detail["type"]
    if kind == "extra_forbidden":
        hint = suggest(str(fault.path[-1]), fault.known)
        listed = f"; known keys are {', '.join(sorted(fault.known))}" if fault.known and not hint else ""
        return f"{at}: unknown key '{fault.path[-1]}'{of}{hint}{listed}"
    if kind == "missing":
        written = detail["input"] if isinstance(detail["input"], Mapping) else {}
        near = suggest(str(fault.path[-1]), written)
        hint = near.replace("did you mean", "is it meant by") if near else ""
        return f"{at}: is required{' by ' + owner if owner else ''} and is not there{hint}"
    if kind == "value_error":
        return f"{at}: {detail['ctx']['error'] if 'ctx' in detail else detail['msg']}"
    wanted = list(dict.fromkeys(_want(one) for one in fault.details))
    found = detail.get("input")
    hint = suggest(found, _choices(detail)) if isinstance(found, str) else ""
    return f"{at}: found {short(found)}, wanted {' or '.join(wanted)}{hint}"


_NOUNS = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "string_type": "a string",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
}


def _want(detail: ErrorDetails) -> str:
    """What would have been right, as a noun."""
    kind = detail["type"]
    if kind in _NOUNS:
        return _NOUNS[kind]
    if kind == "literal_error":
        return str(detail["ctx"]["expected"])
    if kind == "string_pattern_mismatch":
        return f"a string of the form {detail['ctx']['pattern']}"
    if kind == "too_short":
        return f"at least {detail['ctx']['min_length']} entry"
    message = detail["msg"].removeprefix("Input should be ").removeprefix("a valid ")
    if message.startswith(("greater", "less")):
        return f"a number {message}"
    return message[0].lower() + message[1:]


def _choices(detail: ErrorDetails) -> Sequence[str]:
    """The words that a literal allows."""
    if detail["type"] != "literal_error":
        return ()
    return str(detail["ctx"]["expected"]).replace(" or ", ", ").replace("'", "").split(", ")


def short(value: Any) -> str:
    """A value as a message shows it: in TOML's words, cut when long."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return f"a table with keys {', '.join(map(str, value))}" if value else "an empty table"
    text = f"{value:g}" if isinstance(value, float) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def keys_of(model: type[BaseModel]) -> list[str]:
    """The keys of a model as they are written in a file."""
    return [field.alias or name for name, field in model.model_fields.items()]


def _locate(model: type[BaseModel], location: Sequence[Key]) -> tuple[tuple[Key, ...], list[str]]:
    """The key path as it stands in the file, and the keys that the table around its last part knows.

    Pydantic puts the branch of a union into the path; walking the annotations tells such a part from a key.
    """
    path: list[Key] = []
    current: Any = model
    known: list[str] = []
    for part in location:
        branches = _branches(current)
        if len(branches) > 1:
            current = next((b for b in branches if getattr(b, "__name__", None) == part), branches[0])
            continue
        current = branches[0] if branches else None
        known = keys_of(current) if _is_model(current) else []
        path.append(part)
        current = _step(current, part)
    return tuple(path), known


def _branches(annotation: Any) -> list[Any]:
    """The types that a value may have, None apart."""
    if get_origin(annotation) is Annotated:
        return _branches(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [argument for argument in get_args(annotation) if argument is not NoneType]
    return [annotation]


def _is_model(annotation: Any) -> TypeGuard[type[BaseModel]]:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _step(annotation: Any, part: Key) -> Any:
    """The annotation of what stands under a key or at a list index."""
    if _is_model(annotation):
        return next((f.annotation for name, f in annotation.model_fields.items() if part in (name, f.alias)), None)
    arguments = get_args(annotation)
    return arguments[-1] if get_origin(annotation) in (dict, Mapping) and arguments else (arguments[0] if arguments else None)
