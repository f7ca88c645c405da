"""The standard library of the running interpreter as a data set: what it defines, and which function calls what."""

from __future__ import annotations

import gc
import hashlib
import json
import platform
import sysconfig
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedkit.data.dataset import Card, Dataset, Prepared
from embedkit.errors import UsageError
from embedkit.files import make_folder
from embedkit_datasets.files import write_run_file, write_tables
from embedkit_datasets.stdlib.calls import CallReader
from embedkit_datasets.stdlib.compiled import Compiled, probe_compiled
from embedkit_datasets.stdlib.resolve import Resolver
from embedkit_datasets.stdlib.source import LEFT_OUT, read_modules
from embedkit_datasets.stdlib.symbols import Definitions, Item

Row = dict[str, Any]

_ITEM_COLUMNS = (
    "item_id", "kind", "module", "package", "name", "doc", "arg_names", "n_args", "n_defaults", "n_keyword_only",
    "has_varargs", "has_varkw", "is_async", "n_lines",
)  # fmt: skip
_CALLER_COLUMNS = ("caller", "module", "package", "name", "doc", "arg_names", "n_args", "n_lines", "n_calls")
_EVENT_COLUMNS = ("caller", "position", "item_id", "n_calls")
_TEXT = {"item_id", "kind", "module", "package", "name", "doc", "caller"}

CHECKSUMS = {
    "CPython 3.11.7 linux-x86_64": "sha256:44d4c28c4512e4a8b1ef6ba5329037b4f9905093937c0500148544a98d7491ed",
    "CPython 3.12.1 linux-x86_64": "sha256:d33f063bbd91c025af1274e6244e04fe615d66f512734625446cb5d2a7a7fc4a",
    "CPython 3.13.0 linux-x86_64": "sha256:764ef047502192769eb2e4b7caa9a0aaaedafc26a9a499d798f763b9c3f1c204",
}
"""Interpreter, version and platform → digest of the tables' content, built from the released source with all extension modules.
Distributions patch the library and leave modules out, so a different digest is news, not an error."""

DESCRIPTION = f"""\
Items are the modules, classes, functions and methods that the library's source files define, and the functions, classes and methods of
its compiled modules ('builtin'), `builtins` included. Source is read with `ast` and never imported; compiled modules, which have none, are
listed by a child process. A compiled member stands under the public name that programs use (`struct.pack`, not `_struct.pack`); one that
no public module offers is left out. `doc` is the first paragraph of the docstring, `name` the last parts of the id as words, `n_args`
counts parameters without self, `n_lines` source lines; a class has the signature of its own `__init__`. What a signature does not say is
null. Where a name is defined twice, the first definition counts. Left out: {"; ".join(f"{k} ({v})" for k, v in LEFT_OUT.items())};
the codec modules inside `encodings` (generated tables); build configuration.

Events are the calls written in each function's or method's body, in the order in which straight-line execution makes them (arguments
before the call). A call is resolved when what is called is a chain of names that begins with an import of the module or function (aliases,
from-imports, relative and star imports, names handed on by other modules: `os.path.join` is `posixpath.join`), a name of the module
(definitions first; then imports and `x = y`, whichever comes first in the source, over all branches; then star imports, which go before
an `x = y` under a condition), a builtin, the method's own first parameter (its class, then that class's bases, across modules), or
`super()`. Calling a class is an event of the class. A local name hides an outer one. Calls of other values' methods (`line.strip()`) cannot
be told from source and are dropped, as are those of a function's parameters and local variables; the count is logged. Calls inside nested
functions and lambdas are left out: something else makes them. `self.method` is resolved statically: a subclass may override it.

The user is the calling function. Beware: the items hold the callers too, and a caller's text says much about what it calls. `n_calls`
repeats a caller's number of events, so that a run can ask for callers with enough of them. On CPython 3.11.7: 17,698 items, 9,424 callers,
31,338 calls (23,697 by callers with three or more), 18,910 dropped."""


@dataclass(frozen=True)
class Tables:
    """The rows of the three tables, and the number of calls that could not be resolved."""

    items: list[Row]
    callers: list[Row]
    events: list[Row]
    unresolved: int

    def digest(self) -> str:
        """``sha256:…`` of the rows' content, whatever wrote them to disk."""
        hasher = hashlib.sha256()
        for rows in (self.items, self.callers, self.events):
            for row in rows:
                hasher.update(json.dumps(list(row.values()), ensure_ascii=True).encode() + b"\n")
        return f"sha256:{hasher.hexdigest()}"


@contextmanager
def _collector_paused() -> Iterator[None]:
    """No cycle collection meanwhile: millions of live syntax nodes make it half of the time, and it would free nothing."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@_collector_paused()
def build(root: Path, compiled: Compiled) -> Tables:
    """Read the library under ``root``.

    Raises:
        DataError: there is no source there, or it cannot be parsed.
    """
    modules = {module.name: module for module in read_modules(root)}
    definitions = Definitions()
    for module in modules.values():
        definitions.add_module(module)
    resolver = Resolver(definitions, compiled)
    callers: list[Row] = []
    events: list[Row] = []
    unresolved = 0
    for item_id, item in sorted(resolver.items.items()):
        if item.node is None:
            continue
        calls = CallReader(resolver, modules[item.module], item).calls
        unresolved += calls.unresolved
        if calls.items:
            callers.append(_caller_row(item, len(calls.items)))
            rows = ((item_id, position, called, len(calls.items)) for position, called in enumerate(calls.items))
            events.extend(dict(zip(_EVENT_COLUMNS, row, strict=True)) for row in rows)
    return Tables([_item_row(item) for _, item in sorted(resolver.items.items())], callers, events, unresolved)


def _item_row(item: Item) -> Row:
    s = item.signature
    numbers = (None,) * 6 if s is None else (
        list(s.arg_names), s.n_args, s.n_defaults, s.n_keyword_only, int(s.has_varargs), int(s.has_varkw)
    )  # fmt: skip
    is_async = int(item.is_async) if item.kind in ("function", "method") else None
    head = (item.item_id, item.kind, item.module, item.module.partition(".")[0], item.name, item.doc)
    return dict(zip(_ITEM_COLUMNS, (*head, *numbers, is_async, item.n_lines), strict=True))


def _caller_row(item: Item, n_calls: int) -> Row:
    row = _item_row(item) | {"caller": item.item_id, "n_calls": n_calls}
    return {column: row[column] for column in _CALLER_COLUMNS}


def _frame(rows: Iterable[Row], columns: tuple[str, ...]) -> Any:
    import polars as pl

    types: Mapping[str, Any] = {
        c: pl.String if c in _TEXT else pl.List(pl.String) if c == "arg_names" else pl.Int32 for c in columns
    }  # fmt: skip
    return pl.DataFrame(list(rows), schema=types)


def interpreter() -> str:
    """What a checksum is recorded for: implementation, version, platform."""
    return f"{platform.python_implementation()} {platform.python_version()} {sysconfig.get_platform()}"


class PythonApi(Dataset):
    """Items, callers and calls of the standard library. Nothing is downloaded; ten seconds on one core."""

    @property
    def card(self) -> Card:
        """The data set's card."""
        return Card(
            name="python_api",
            title="Python's standard library: what it defines, and which function calls what",
            description=DESCRIPTION,
            licence="Python Software Foundation License Version 2 (the library's own; it is read where it is installed)",
            citation="Python Software Foundation. The Python Standard Library. https://docs.python.org/3/library/",
            source="built from the standard library of the running interpreter",
            checksums=CHECKSUMS,
            tables={
                "items": "a module, class, function, method or builtin",
                "callers": "a function or method that makes at least one resolved call",
                "events": "a call: caller, position (from 0, strict within a caller), called item",
            },
        )

    def prepare(self, out: Path, *, prepared: Path | None = None, log: Callable[[str], Any] = lambda line: None) -> Prepared:
        """Build the tables and write them with the starter run file into ``out``.

        Raises:
            UsageError: ``prepared`` is given; there is no prepared copy of what is built on the spot.
            DataError: the library's source is not installed, or cannot be read.
        """
        if prepared is not None:
            raise UsageError("python_api is built from the running interpreter, so there is no prepared copy: leave out --from")
        root = Path(sysconfig.get_path("stdlib"))
        log(f"reading {root} ({interpreter()})")
        tables = build(root, probe_compiled())
        counts = f"{len(tables.items):,} items; {len(tables.callers):,} callers; {len(tables.events):,} calls resolved"
        log(f"{counts}, {tables.unresolved:,} dropped")
        log(_verdict(interpreter(), tables.digest()))
        make_folder(out)
        frames = {
            "items": _frame(tables.items, _ITEM_COLUMNS),
            "callers": _frame(tables.callers, _CALLER_COLUMNS),
            "events": _frame(tables.events, _EVENT_COLUMNS),
        }
        return Prepared(write_tables(frames, out, log), write_run_file("python_api", out, log))


def _verdict(name: str, found: str) -> str:
    wanted = CHECKSUMS.get(name)
    if wanted is None:
        return f"no checksum is recorded for {name}; this build has {found}"
    if wanted == found:
        return f"content {found} as recorded for {name}"
    return f"warning: content {found} differs from {wanted}, recorded for {name}: this installation's library is patched or lacks modules"
