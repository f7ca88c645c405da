"""The calls that a function's source makes, resolved to items, in the order in which straight-line execution makes them."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from embedkit_datasets.stdlib.resolve import Resolver
from embedkit_datasets.stdlib.source import Module
from embedkit_datasets.stdlib.symbols import Bound, FunctionNode, Item, dotted, imported, is_static

_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda, *_COMPREHENSIONS)
_NAMED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.ExceptHandler, ast.MatchAs, ast.MatchStar)
_IMPORTS = (ast.Import, ast.ImportFrom)


@dataclass
class Calls:
    """The resolved calls of one function, and how many could not be resolved."""

    items: list[str] = field(default_factory=list)
    unresolved: int = 0


@dataclass(frozen=True)
class _Frame:
    """A function's own names: imports made inside it, and names whose value cannot be told (parameters, assignments)."""

    imports: Mapping[str, Bound]
    unknown: frozenset[str]


class CallReader(ast.NodeVisitor):
    """Reads one function; ``calls`` holds the result.

    A call is resolved when what is called is written as a chain of names that starts at an import, a name of the module, a builtin, the
    method's own first parameter (its class and that class's bases), or ``super()``. Methods of other values are not: their class is not
    written down. Calls inside nested functions and lambdas are left out, since it is not this function that makes them.
    """

    def __init__(self, resolver: Resolver, module: Module, item: Item) -> None:
        self._resolver = resolver
        self._module = module
        self._class = item.owner
        self._self: str | None = None
        self.calls = Calls()
        assert item.node is not None
        arguments = item.node.args
        positional = [*arguments.posonlyargs, *arguments.args]
        if item.owner and positional and not is_static(item.node):
            self._self = positional[0].arg
        self._frames = [_frame(item.node, module)]
        for statement in item.node.body:
            self.visit(statement)

    def _visit_function(self, node: FunctionNode) -> None:
        for expression in (*node.decorator_list, *node.args.defaults, *filter(None, node.args.kw_defaults)):
            self.visit(expression)  # these run where the nested function is defined; its body runs when something calls it

    visit_FunctionDef = visit_AsyncFunctionDef = _visit_function  # noqa: N815 - the names that NodeVisitor looks for

    def visit_Lambda(self, node: ast.Lambda) -> None:
        """As for a nested function: only the defaults run here."""
        for expression in (*node.args.defaults, *filter(None, node.args.kw_defaults)):
            self.visit(expression)

    def generic_visit(self, node: ast.AST) -> None:
        """Comprehensions have names of their own, and run their loops before their element."""
        if isinstance(node, _COMPREHENSIONS):
            names = {n.id for g in node.generators for n in ast.walk(g.target) if isinstance(n, ast.Name)}
            self.visit(node.generators[0].iter)  # outside the comprehension's scope
            self._frames.append(_Frame({}, frozenset(names)))
            for i, generator in enumerate(node.generators):
                for part in (*([generator.iter] if i else []), *generator.ifs):
                    self.visit(part)
            for part in (node.key, node.value) if isinstance(node, ast.DictComp) else (node.elt,):
                self.visit(part)
            self._frames.pop()
        else:
            super().generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        """Annotations of local names are never evaluated."""
        if node.value is not None:
            self.visit(node.value)

    def visit_Assign(self, node: ast.Assign) -> None:
        """The value is computed before the targets."""
        self.visit(node.value)
        for target in node.targets:
            self.visit(target)

    def visit_Call(self, node: ast.Call) -> None:
        """A call happens after its function and its arguments have been evaluated."""
        self.generic_visit(node)
        found = self._target(node.func)
        if found is None:
            self.calls.unresolved += 1
        else:
            self.calls.items.append(found)

    def _target(self, func: ast.expr) -> str | None:
        found = self._expression(func)
        return found if found in self._resolver.items and self._resolver.items[found].kind != "module" else None

    def _expression(self, func: ast.expr) -> str | None:
        path = dotted(func)
        if path is not None:
            return self._path(path)
        if isinstance(func, ast.Attribute) and isinstance(func.value, ast.Call) and dotted(func.value.func) == "super" and self._class:
            return self._resolver.inherited(self._class, func.attr)
        return None

    def _path(self, path: str) -> str | None:
        head, *rest = path.split(".")
        for depth, frame in reversed(list(enumerate(self._frames))):
            if head in frame.imports:
                return self._resolver.chain(self._resolver.follow(self._module.name, frame.imports[head]), rest)
            if head in frame.unknown:
                if depth == 0 and head == self._self and self._class:
                    return self._resolver.chain(self._class, rest)
                return None
        return self._resolver.name(self._module.name, path)


def _parameters(arguments: ast.arguments) -> Iterator[str]:
    every = (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg)
    return (a.arg for a in every if a is not None)


def _own_nodes(node: FunctionNode) -> Iterator[ast.AST]:
    """The nodes of a function's own scope: not those of functions, classes, lambdas and comprehensions inside it."""
    waiting: list[ast.AST] = list(node.body)
    while waiting:
        current = waiting.pop()
        yield current
        if not isinstance(current, _SCOPES):
            waiting.extend(ast.iter_child_nodes(current))


def _frame(node: FunctionNode, module: Module) -> _Frame:
    imports: dict[str, Bound] = {}
    unknown = set(_parameters(node.args))
    outer: set[str] = set()
    for inner in _own_nodes(node):
        if isinstance(inner, ast.Name):
            if not isinstance(inner.ctx, ast.Load):
                unknown.add(inner.id)
        elif isinstance(inner, _IMPORTS):
            imports.update(imported(inner, module))
        elif isinstance(inner, (ast.Global, ast.Nonlocal)):
            outer.update(inner.names)
        elif isinstance(inner, _NAMED) and inner.name:
            unknown.add(inner.name)
    unknown -= outer
    return _Frame({k: v for k, v in imports.items() if k not in unknown and k not in outer}, frozenset(unknown))
