"""``embedkit components``: what may stand in a run file, with options, types, defaults and help."""

from __future__ import annotations

import inspect
import json
import re
import types
import typing
from typing import TYPE_CHECKING, Any

import click

from embedkit.cli.render import json_option, show_json, show_table
from embedkit.cli.state import State, pass_state

if TYPE_CHECKING:
    from embedkit.registry import Entry


@click.command("components")
@click.argument("kind", required=False)
@click.argument("name", required=False)
@json_option
@pass_state
def command(state: State, kind: str | None, name: str | None, as_json: bool) -> None:
    """List components; those of a KIND (loss, encoder, …); or the options of one NAME."""
    registry = state.registry
    if kind is not None and kind not in registry.kinds and kind.endswith("s"):
        kind = next((k for k in registry.kinds if kind in (f"{k}s", f"{k}es")), kind)
    if kind is not None and name is not None:
        _show_one(registry.entry(kind, name), as_json)
        return
    entries = [entry for k in ([kind] if kind else registry.kinds) for entry in registry.entries(k)]
    if as_json:
        show_json([describe(entry, options=kind is not None) for entry in entries])
        return
    show_table(("kind", "name", "plugin", "what it does"), [(e.kind, e.name, e.owner.plugin, e.summary) for e in entries], empty="none")


def _show_one(entry: Entry, as_json: bool) -> None:
    found = describe(entry, options=True)
    if as_json:
        show_json(found)
        return
    click.echo(f"{entry.kind} {entry.qualified}: {entry.summary}")
    click.echo(f"from {entry.owner}\n")
    rows = [(o["name"], o["type"], "required" if o["required"] else default_text(o["default"]), o["help"]) for o in found["options"]]
    show_table(("option", "type", "default", "what it is"), rows, empty="has no options")


def describe(entry: Entry, *, options: bool) -> dict[str, Any]:
    """An entry as JSON; its options are those of its configuration class."""
    found: dict[str, Any] = {"kind": entry.kind, "name": entry.name, "qualified": entry.qualified, "summary": entry.summary}
    found |= {"distribution": entry.owner.distribution, "version": entry.owner.version}
    if options:
        config = entry.config_class()
        found["options"] = [
            {
                "name": info.alias or name,
                "type": type_text(info.annotation),
                "required": info.is_required(),
                "default": None if info.is_required() else _json_default(info.get_default(call_default_factory=True)),
                "help": inspect.cleandoc(info.description or "").replace("``", "").replace("\n", " "),
            }
            for name, info in config.model_fields.items()
            if name != "use"  # the component's own name, where an options class carries it
        ]
    return found


def _json_default(value: Any) -> Any:
    return value.model_dump(mode="json", by_alias=True) if hasattr(value, "model_dump") else value


def default_text(value: Any) -> str:
    """A default as a run file would say it; nothing for None."""
    if value is None:
        return ""
    return json.dumps(value, default=str) if not isinstance(value, float) else f"{value:g}"


def type_text(annotation: Any) -> str:
    """A type as a run file's author thinks of it: ``number``, ``list of string``, ``'a' or 'b'``."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return type_text(arguments[0])
    if origin is typing.Literal:
        return " or ".join(repr(value) for value in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(type_text(one) for one in arguments if one is not types.NoneType))
    if origin in (list, tuple):
        return f"list of {type_text(arguments[0])}" if arguments else "list"
    if origin is dict:
        return f"table of {type_text(arguments[1])}"
    words = {int: "whole number", float: "number", str: "string", bool: "true or false"}
    if annotation in words:
        return words[annotation]
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", getattr(annotation, "__name__", str(annotation))).lower()
