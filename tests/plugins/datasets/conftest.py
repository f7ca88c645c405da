from __future__ import annotations

import http.server
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from embedkit.config.load import load_run
from embedkit.data.table import open_table
from embedkit_datasets.stdlib.calls import CallReader
from embedkit_datasets.stdlib.compiled import Compiled
from embedkit_datasets.stdlib.resolve import Resolver
from embedkit_datasets.stdlib.source import read_modules
from embedkit_datasets.stdlib.symbols import Definitions


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """serve(name, data, announced=None) -> address on loopback; ``announced`` is a Content-Length that may lie."""
    served: dict[str, tuple[bytes, int]] = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path not in served:
                self.send_error(404)
                return
            data, announced = served[self.path]
            self.send_response(200)
            self.send_header("Content-Length", str(announced))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()

    def add(name: str, data: bytes, announced: int | None = None) -> str:
        served[f"/{name}"] = (data, len(data) if announced is None else announced)
        return f"http://127.0.0.1:{server.server_port}/{name}"

    yield add
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def rows_of_run_file() -> Callable[[Path], dict[str, int]]:
    """Open every table of a run file as the core does (``where``, ``group``, keys checked), look up its joins; table → rows."""

    def opened(path: Path) -> dict[str, int]:
        config = load_run(path)
        tables = {name: open_table(table, name, path.parent) for name, table in config.tables.items()}
        for name, table in config.tables.items():
            for column, other in table.join.items():
                assert (tables[other].positions(tables[name].column(column)) >= 0).all()
        return {name: table.rows for name, table in tables.items()}

    return opened


class Library:
    """A small fake standard library: write modules, then ask what a function calls."""

    def __init__(self, root: Path, compiled: Compiled) -> None:
        self.root = root
        self.compiled = compiled

    def write(self, files: dict[str, str]) -> None:
        for name, text in files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")

    def resolver(self) -> tuple[Resolver, dict[str, object]]:
        definitions = Definitions()
        modules = {m.name: m for m in read_modules(self.root)}
        for module in modules.values():
            definitions.add_module(module)
        return Resolver(definitions, self.compiled), modules

    def calls(self, caller: str) -> list[str]:
        return self.reader(caller).calls.items

    def reader(self, caller: str) -> CallReader:
        resolver, modules = self.resolver()
        item = resolver.items[caller]
        return CallReader(resolver, modules[item.module], item)  # type: ignore[arg-type]


def function(doc: str | None = None) -> dict[str, object]:
    return {"kind": "function", "doc": doc, "signature": [["x", "POSITIONAL_OR_KEYWORD", False]]}


def cls(qualname: str, methods: tuple[str, ...] = (), bases: tuple[str, ...] = ()) -> dict[str, object]:
    content = {m: {"kind": "method", "doc": None, "signature": [["self", "POSITIONAL_ONLY", False]]} for m in methods}
    return {"kind": "class", "doc": None, "signature": None, "qualname": qualname, "bases": list(bases), "methods": content}


@pytest.fixture
def library(tmp_path: Path) -> Library:
    compiled = {
        "builtins": {
            "doc": "Built-in functions.",
            "members": {
                "len": function("Return the number of items."),
                "print": function(),
                "str": cls("builtins.str", ("join",)),
                "dict": cls("builtins.dict", ("update",)),
                "super": cls("builtins.super"),
            },
        },
        "_fast": {"doc": None, "members": {"pack": function("Pack."), "Packer": cls("_fast.Packer", ("flush",)), "hidden": function()}},
        "posix": {"doc": None, "members": {"mkdir": function()}},
        "math": {"doc": "Mathematics.", "members": {"sqrt": function("Square root.")}},
    }
    return Library(tmp_path / "lib", Compiled(compiled))
