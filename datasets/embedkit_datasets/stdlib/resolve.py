"""From a dotted name in some scope to the item it stands for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from embedkit_datasets.stdlib.compiled import Compiled
from embedkit_datasets.stdlib.symbols import Bound, Definitions, Item, Scope, Signature, first_paragraph

BUILTINS = "builtins"
_BEHIND_OS = ("posix", "nt")  # compiled modules whose documented face is `os`, though their names look public


class Resolver:
    """Follows names through modules, classes and compiled modules. Answers are dotted ids of items; a module's id is its name.

    Compiled members are items under the name by which programs know them: ``struct.pack``, not ``_struct.pack``. A private compiled
    module's member that no public module re-exports is no item.
    """

    def __init__(self, definitions: Definitions, compiled: Compiled) -> None:
        self.scopes = definitions.scopes
        self.items = dict(definitions.items)
        self._compiled = compiled.modules
        self._classes: dict[str, Mapping[str, Any]] = {}  # compiled classes by raw id
        self._raw: dict[str, str] = {}  # published id → raw id of a compiled class
        self._published: dict[str, str] = {}  # raw id of a compiled member → its item id
        self._by_qualname: dict[str, str] = {}
        for module, content in self._compiled.items():
            for name, member in content["members"].items():
                if member["kind"] == "class":
                    self._classes[f"{module}.{name}"] = member
                    self._by_qualname.setdefault(member["qualname"], f"{module}.{name}")
        self._publish()

    def name(self, scope: str, dotted: str) -> str | None:
        """The item that a dotted name means in a module's or class's scope; builtins come last. None when it cannot be told."""
        return self._public(self._dotted(scope, dotted, frozenset()))

    def chain(self, found: str | None, rest: list[str]) -> str | None:
        """Follow attributes from an item."""
        for part in rest:
            if found is None:
                return None
            found = self.attribute(found, part)
        return self._public(found)

    def attribute(self, owner: str, name: str) -> str | None:
        """Attribute ``name`` of a module or class, bases included."""
        return self._public(self._member(owner, name, frozenset()))

    def inherited(self, owner: str, name: str) -> str | None:
        """As ``attribute``, looking in the bases only: what ``super().name`` means in class ``owner``."""
        return self._public(self._in_bases(owner, name, frozenset()))

    def follow(self, scope: str, bound: Bound) -> str | None:
        """The item that a binding of a function's own scope means."""
        return self._public(self._follow(scope, bound, frozenset()))

    def _public(self, found: str | None) -> str | None:
        return None if found is None else self._published.get(found, found)

    def _member(self, owner: str, name: str, seen: frozenset[tuple[str, str]]) -> str | None:
        """Raw lookup; ``seen`` breaks circles of imports."""
        owner = self._raw.get(owner, owner)
        if (owner, name) in seen:
            return None
        seen |= {(owner, name)}
        scope = self.scopes.get(owner)
        if scope is not None:
            found = self._bound(owner, scope, name, seen)
            if found is None and f"{owner}.{name}" in self.items and self.items[f"{owner}.{name}"].kind == "module":
                found = f"{owner}.{name}"  # a submodule
            return found or self._in_bases(owner, name, seen)
        if owner in self._classes:
            if name in self._classes[owner]["methods"]:
                return f"{owner}.{name}"
            return self._in_bases(owner, name, seen)
        members = self._compiled.get(owner, {}).get("members", {})
        return f"{owner}.{name}" if name in members else None

    def _bound(self, owner: str, scope: Scope, name: str, seen: frozenset[tuple[str, str]]) -> str | None:
        bound = scope.names.get(name)
        if bound is not None and not bound.fallback and (found := self._follow(owner, bound, seen)):
            return found
        if not name.startswith("_"):
            for star in reversed(scope.stars):
                if found := self._member(star, name, seen):
                    return found
        return self._follow(owner, bound, seen) if bound is not None and bound.fallback else None

    def _in_bases(self, owner: str, name: str, seen: frozenset[tuple[str, str]]) -> str | None:
        owner = self._raw.get(owner, owner)
        if owner in self._classes:
            bases: Iterator[str | None] = (self._by_qualname.get(base) for base in self._classes[owner]["bases"])
        elif owner in self.scopes:
            bases = (self._base(owner, base, seen) for base in self.scopes[owner].bases)
        else:
            return None
        return next((found for base in bases if base and (found := self._member(base, name, seen))), None)

    def _base(self, cls: str, dotted: str, seen: frozenset[tuple[str, str]]) -> str | None:
        """A base class's expression is read where the class stands: enclosing classes are not asked."""
        return self._dotted(self.scopes[cls].module, dotted, seen)

    def _dotted(self, scope: str, dotted: str, seen: frozenset[tuple[str, str]]) -> str | None:
        head, *rest = dotted.split(".")
        found = self._member(scope, head, seen)
        module = self.scopes[scope].module
        if found is None and module != scope:
            found = self._member(module, head, seen)
        if found is None:
            found = self._member(BUILTINS, head, seen)
        for part in rest:
            found = self._member(found, part, seen) if found else None
        return found

    def _follow(self, scope: str, bound: Bound, seen: frozenset[tuple[str, str]]) -> str | None:
        if bound.how == "item":
            return bound.target
        if bound.how == "alias":
            return self._dotted(scope, bound.target, seen)
        module = self._module(bound.target, seen)
        if module is None or bound.how == "module":
            return module
        return self._member(module, bound.name, seen)

    def _module(self, name: str, seen: frozenset[tuple[str, str]]) -> str | None:
        if name in self.scopes or name in self._compiled:
            return name
        parent, _, last = name.rpartition(".")  # `os.path` is no file: it is what `path` means in `os`
        found = self._module(parent, seen) if parent else None
        found = self._member(found, last, seen) if found else None
        return found if found in self.scopes or found in self._compiled else None

    def _publish(self) -> None:
        """Give every compiled member that a public name leads to its item, under the plainest such name."""
        names: dict[str, list[str]] = {}
        for module in self._compiled:
            if not module.startswith("_") and module not in _BEHIND_OS:
                self._add(module, "module", module, self._compiled[module], owner=None)
                for name in self._compiled[module]["members"]:
                    names.setdefault(f"{module}.{name}", []).append(f"{module}.{name}")
        for module, scope in sorted(self.scopes.items()):
            if scope.module != module or any(part.startswith("_") for part in module.split(".")):
                continue
            for name in sorted(self._exported(module, frozenset())):
                raw = None if name.startswith("_") else self._member(module, name, frozenset())
                if raw is not None and raw.rpartition(".")[0] in self._compiled and raw not in self.scopes:
                    names.setdefault(raw, []).append(f"{module}.{name}")
        for raw, candidates in sorted(names.items()):
            self._publish_member(raw, min(candidates, key=lambda c: _plainness(raw, c)))

    def _exported(self, module: str, seen: frozenset[str]) -> set[str]:
        """Names that a module binds, those of its star imports included."""
        if module in seen or module not in self.scopes:
            return set(self._compiled.get(module, {}).get("members", {}))
        scope = self.scopes[module]
        return set(scope.names).union(*(self._exported(star, seen | {module}) for star in scope.stars))

    def _publish_member(self, raw: str, item_id: str) -> None:
        module, _, name = raw.rpartition(".")
        if item_id in self.items:
            return
        member = self._compiled[module]["members"][name]
        public_module = item_id.rpartition(".")[0]
        self._published[raw] = item_id
        self._add(item_id, "builtin", public_module, member, owner=None)
        if member["kind"] == "class":
            self._raw[item_id] = raw
            for method, content in member["methods"].items():
                self._published[f"{raw}.{method}"] = f"{item_id}.{method}"
                self._add(f"{item_id}.{method}", "builtin", public_module, content, owner=item_id)

    def _add(self, item_id: str, kind: Any, module: str, content: Mapping[str, Any], *, owner: str | None) -> None:
        signature = _signature(content.get("signature"), method=owner is not None)
        self.items.setdefault(item_id, Item(item_id, kind, module, first_paragraph(content["doc"]), signature, owner=owner))


def _plainness(raw: str, candidate: str) -> tuple[bool, bool, int, str]:
    """Order of preference: defined there; the private module's public twin (``_struct`` → ``struct``); fewest parts; alphabet."""
    home, module = raw.rpartition(".")[0], candidate.rpartition(".")[0]
    same_name = raw.rpartition(".")[2] == candidate.rpartition(".")[2]
    twin = module == home.lstrip("_") or (module == "os" and home in _BEHIND_OS)
    return (candidate != raw, not (twin and same_name), candidate.count(".") + (not same_name), candidate)


def _signature(parameters: list[list[Any]] | None, *, method: bool) -> Signature | None:
    if parameters is None:
        return None
    if method and parameters and parameters[0][0] in ("self", "cls", "type"):
        parameters = parameters[1:]
    plain = [p for p in parameters if p[1] not in ("VAR_POSITIONAL", "VAR_KEYWORD")]
    kinds = [p[1] for p in parameters]
    return Signature(
        tuple(p[0] for p in plain), len(plain), sum(p[2] for p in plain), kinds.count("KEYWORD_ONLY"),
        "VAR_POSITIONAL" in kinds, "VAR_KEYWORD" in kinds,
    )  # fmt: skip
