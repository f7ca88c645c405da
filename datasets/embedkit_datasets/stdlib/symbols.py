"""What each module and class defines and binds, read from the syntax tree: the library's items and the names that lead to them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from embedkit_datasets.stdlib.source import Module

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef
Kind = Literal["module", "class", "function", "method", "builtin"]

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


@dataclass(frozen=True)
class Signature:
    """Numbers and names of a function's parameters; ``self`` and ``cls`` are not counted."""

    arg_names: tuple[str, ...]
    n_args: int
    n_defaults: int
    n_keyword_only: int
    has_varargs: bool
    has_varkw: bool


@dataclass(frozen=True)
class Item:
    """One module, class, function, method or builtin. ``node`` is its function's syntax, where it has one."""

    item_id: str
    kind: Kind
    module: str
    doc: str | None
    signature: Signature | None = None
    n_lines: int | None = None
    is_async: bool = False
    node: FunctionNode | None = None
    owner: str | None = None  # the class of a method

    @property
    def name(self) -> str:
        """Human words of the last part, and of the class before it for a method: ``parse date``, ``json encoder encode``."""
        parts = self.item_id.split(".")
        keep = parts if self.kind == "module" else parts[-2:] if self.owner else parts[-1:]
        return " ".join(words(part) for part in keep)


@dataclass(frozen=True)
class Bound:
    """What a name stands for before it is followed.

    ``item``: ``target`` is an item's id. ``module``: a module's name. ``member``: ``name`` of module ``target``.
    ``alias``: the dotted expression ``target``, read in the scope of the binding. ``fallback``: the binding stands under a condition, so
    that a star import goes first (``os``: ``fspath = _fspath`` only where ``posix`` has none).
    """

    how: Literal["item", "module", "member", "alias"]
    target: str
    name: str = ""
    fallback: bool = False


@dataclass
class Scope:
    """The names of a module or class. ``stars``: modules imported with ``*``; ``bases``: a class's base expressions."""

    module: str
    names: dict[str, Bound] = field(default_factory=dict)
    stars: list[str] = field(default_factory=list)
    bases: list[str] = field(default_factory=list)


def words(identifier: str) -> str:
    """Lower-case words of an identifier: ``JSONEncoder`` → ``json encoder``; itself when it has no letters or digits."""
    return " ".join(_WORD.findall(identifier)).lower() or identifier


def first_paragraph(doc: str | None) -> str | None:
    """The first paragraph on one line; None when there is none."""
    if not doc:
        return None
    paragraph = re.split(r"\n\s*\n", doc.strip(), maxsplit=1)[0]
    return " ".join(paragraph.split()) or None


def dotted(node: ast.expr | None) -> str | None:
    """``a.b.c`` of a chain of names and attributes, else None."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return None
    return ".".join([node.id, *reversed(parts)])


def statements(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a scope, branches of ``if``, ``try``, ``with`` and loops included, in source order."""
    for node in body:
        yield node
        for block in ("body", "handlers", "orelse", "finalbody"):
            if isinstance(node, ast.If | ast.Try | ast.TryStar | ast.With | ast.For | ast.While):
                for inner in getattr(node, block, []):
                    yield from statements(inner.body if isinstance(inner, ast.ExceptHandler) else [inner])


def imported(node: ast.Import | ast.ImportFrom, module: Module) -> Iterator[tuple[str, Bound]]:
    """The names that an import statement binds; ``*`` stands for a star import."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            bound = alias.name if alias.asname else alias.name.partition(".")[0]
            yield alias.asname or bound, Bound("module", bound)
        return
    base = node.module or ""
    if node.level:
        parts = module.package.split(".")
        base = ".".join([*parts[: len(parts) - node.level + 1], *filter(None, [base])])
    for alias in node.names:
        yield alias.asname or alias.name, Bound("member", base, alias.name)


def is_static(node: FunctionNode) -> bool:
    """Whether a method has no first parameter of its own; ``__new__`` has one."""
    return any(dotted(d) == "staticmethod" for d in node.decorator_list)


def signature_of(node: FunctionNode, *, method: bool) -> Signature:
    """The signature of a function's syntax."""
    a = node.args
    positional = [x.arg for x in (*a.posonlyargs, *a.args)]
    if method and positional and not is_static(node):
        positional = positional[1:]
    keyword_only = [x.arg for x in a.kwonlyargs]
    defaults = len(a.defaults) + sum(d is not None for d in a.kw_defaults)
    return Signature(
        tuple(positional + keyword_only), len(positional) + len(keyword_only), defaults, len(keyword_only),
        a.vararg is not None, a.kwarg is not None,
    )  # fmt: skip


class Definitions:
    """Collects the items and scopes of source modules. ``scopes`` holds modules and classes by dotted id."""

    def __init__(self) -> None:
        self.items: dict[str, Item] = {}
        self.scopes: dict[str, Scope] = {}

    def add_module(self, module: Module) -> None:
        """Take in one module. Where a name is defined twice (overloads, property setters), the first definition counts."""
        lines = max((getattr(n, "end_lineno", 0) or 0 for n in module.tree.body), default=0)
        doc = first_paragraph(ast.get_docstring(module.tree))
        self.items[module.name] = Item(module.name, "module", module.name, doc, n_lines=lines)
        self.scopes[module.name] = self._scope(module, module.name, module.tree.body, cls=False)

    def _scope(self, module: Module, prefix: str, body: list[ast.stmt], *, cls: bool) -> Scope:
        scope = Scope(module.name)
        weak: dict[str, Bound] = {}  # imports and aliases: where a C version replaces a definition, the definition still documents it
        for node in statements(body):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                item_id = f"{prefix}.{node.name}"
                if item_id not in self.items:
                    self._define(module, item_id, node, prefix if cls else None)
                scope.names.setdefault(node.name, Bound("item", item_id))
            elif isinstance(node, ast.Import | ast.ImportFrom):
                for name, bound in imported(node, module):
                    if name == "*":
                        scope.stars.append(bound.target)
                    else:
                        weak.setdefault(name, bound)
            elif isinstance(node, ast.Assign | ast.AnnAssign) and (target := dotted(node.value)):
                for left in node.targets if isinstance(node, ast.Assign) else [node.target]:
                    if isinstance(left, ast.Name):
                        weak.setdefault(left.id, Bound("alias", target, fallback=node not in body))
        scope.names = weak | scope.names
        return scope

    def _define(self, module: Module, item_id: str, node: FunctionNode | ast.ClassDef, owner: str | None) -> None:
        doc = first_paragraph(ast.get_docstring(node))
        n_lines = (node.end_lineno or node.lineno) - node.lineno + 1
        if isinstance(node, ast.ClassDef):
            self.items[item_id] = Item(item_id, "class", module.name, doc, None, n_lines)  # before its members: they may not take its id
            scope = self._scope(module, item_id, node.body, cls=True)
            scope.bases = [base for base in map(dotted, node.bases) if base]
            self.scopes[item_id] = scope
            init = self.items.get(f"{item_id}.__init__")
            self.items[item_id] = Item(item_id, "class", module.name, doc, init.signature if init else None, n_lines)
        else:
            kind: Kind = "method" if owner else "function"
            signature = signature_of(node, method=owner is not None)
            is_async = isinstance(node, ast.AsyncFunctionDef)
            self.items[item_id] = Item(item_id, kind, module.name, doc, signature, n_lines, is_async, node, owner)
