"""Two reference pages made from what the code says of itself: the hooks, and the components that come with embedkit."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from embedkit import hookspecs
from embedkit.cli.components import default_text, describe
from embedkit.host import GROUP

if TYPE_CHECKING:
    from embedkit.registry import Entry, Registry


def hooks() -> dict[str, Callable[..., Any]]:
    """Hook → its specification, in the order of the module."""
    return {name: spec for name, spec in vars(hookspecs).items() if hasattr(spec, "embedkit_spec")}


def hooks_page() -> str:
    """``docs/hooks.md``: every hook with its signature and what its specification says."""
    about = inspect.getdoc(hookspecs)
    assert about is not None
    lines = ["# Hooks", "", *_made_by("hooks"), *_markdown(about), ""]
    lines += ["[Write a plugin](guides/plugin.md) shows one from the first line to a package.", ""]
    for title, chosen in _sections():
        lines += [f"## {title}", ""]
        for name in chosen:
            spec = hooks()[name]
            doc = inspect.getdoc(spec)
            assert doc is not None, f"{name} has no documentation"
            lines += [
                f"### {name}",
                "",
                "```python",
                "@embedkit.hookimpl",
                f"def {name}{_signature(spec)}: ...",
                "```",
                "",
                *_markdown(doc),
                "",
            ]
    return "\n".join(lines)


def _sections() -> Iterator[tuple[str, list[str]]]:
    registering = [name for name in hooks() if name.startswith("register_")]
    yield "Registering", registering
    yield "Moments and checks", [name for name in hooks() if name not in registering]


def _signature(spec: Callable[..., Any]) -> str:
    parameters = [f"{p.name}: {p.annotation}" for p in inspect.signature(spec).parameters.values()]
    answer = inspect.signature(spec).return_annotation
    return f"({', '.join(parameters)}) -> {answer}"


def components_page(registry: Registry) -> str:
    """``docs/components.md``: the components that come with embedkit, by kind, with every option. Other plugins' are left out."""
    lines = ["# Components", "", *_made_by("components")]
    lines += [
        'What may stand in a run file as `use = "name"` (or as `type`, `sampler`), and on the command line. `embedkit components` lists'
    ]
    lines += ["the same, with those of the plugins that are installed where it runs.", ""]
    for kind in registry.kinds:
        entries = [entry for entry in registry.entries(kind) if entry.owner.distribution == GROUP]
        lines += [f"## {kind}", ""]
        for entry in entries:
            lines += _component(entry)
    return "\n".join(lines)


def _component(entry: Entry) -> list[str]:
    lines = [f"### {kind_name(entry)}", "", entry.summary, ""]
    options = describe(entry, options=True)["options"]
    if options:
        lines += ["| option | type | default | what it is |", "|---|---|---|---|"]
        for one in options:
            default = "required" if one["required"] else f"`{default_text(one['default'])}`" if one["default"] is not None else ""
            lines.append(f"| `{one['name']}` | {_cell(one['type'])} | {_cell(default)} | {_cell(one['help'])} |")
        lines.append("")
    return lines


def kind_name(entry: Entry) -> str:
    """The heading of a component: its qualified name, which always works."""
    return f"{entry.kind} `{entry.qualified}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _made_by(page: str) -> list[str]:
    return [f"<!-- Made by `python -m embedkit.cli.docs {page} > docs/{page}.md`; a test compares it with the code. -->", ""]


def _markdown(text: str) -> list[str]:
    """reStructuredText as our docstrings use it: double backticks, and ``::`` before an indented block."""
    lines: list[str] = []
    block = False
    for line in text.replace("``", "`").split("\n"):
        if line.endswith("::") and not block:
            lines += [line[:-1], "", "```python"]
            block = True
        elif block and line and not line.startswith("    "):
            while lines[-1] == "":
                lines.pop()
            lines += ["```", "", line]
            block = False
        elif block and lines[-1] == "```python" and not line:
            continue
        else:
            lines.append(line[4:] if block else line)
    return [*lines, "```"] if block else lines
