"""A small shop, and one shop a session that went the whole way: trained twice, embedded, indexed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from embedkit.testing.command import call

COLOURS, THINGS = ["red", "green", "blue", "black"], ["gloves", "hat", "scarf", "shirt", "socks"]
SMALL = ("--set", "model.dim=16", "--threads", "1", "--device", "cpu")


def make_items() -> pl.DataFrame:
    """Sixty items; some titles, brands, prices and tags are missing, some have no tags."""
    return pl.DataFrame(
        {
            "item_id": f"i{n:03d}",
            "title": f"{COLOURS[n % 4]} {THINGS[n % 5]} number {n}" if n % 17 else None,
            "brand": f"brand {n % 7}" if n % 13 else None,
            "price": 3.5 + (n * 37) % 90 if n % 11 else None,
            "tags": None if n % 10 == 5 else [f"tag {n % 4}", f"tag {n % 3}"][: n % 3],
        }
        for n in range(60)
    )


def make_events() -> pl.DataFrame:
    """Forty users, twelve events each, in time order."""
    rows = []
    for user in range(40):
        for step in range(12):
            item = (user * 7 + step * (1 + user % 3)) % 60
            rows.append({"user_id": f"u{user:02d}", "item_id": f"i{item:03d}", "at": 1_700_000_000 + 90_000 * step + 37 * user})
    return pl.DataFrame(rows).with_columns(pl.from_epoch("at", time_unit="s"))


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@pytest.fixture(autouse=True)
def _own_torch_settings() -> Iterator[None]:
    """Runs set threads and deterministic algorithms for the process; other tests should not see that."""
    import torch

    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)


@dataclass(frozen=True)
class Way:
    """A shop that went the whole way. Tests only read it: those that change something copy it first."""

    folder: Path
    trained: Any
    built: Any

    @property
    def run(self) -> Path:
        return Path(self.trained[0]["run"])

    @property
    def bundle(self) -> Path:
        return self.run / "bundle"

    @property
    def index(self) -> Path:
        return self.folder / "index"

    @property
    def vectors(self) -> Path:
        return self.folder / "vectors"


@pytest.fixture(scope="session")
def way(tmp_path_factory: pytest.TempPathFactory) -> Way:
    folder = tmp_path_factory.mktemp("way")
    make_items().write_parquet(folder / "items.parquet")
    make_events().write_parquet(folder / "events.parquet")
    with inside(folder):
        call("init", "items.parquet", "events.parquet", "--name", "shop").ok()
        trained = call("train", "run.toml", *SMALL, "--set", "stages.0.epochs=2", "--json").json
        slow = ("--set", "stages.0.steps=3", "--set", "name=slow")
        trained += call("train", _steps(folder / "run.toml"), *SMALL, *slow, "--json").json
        call("embed", trained[0]["run"], "--out", "vectors", "--device", "cpu", "--json").ok()
        built = call("index", "vectors", "--out", "index", "--threads", "1", "--json").json
    return Way(folder, [{**one, "run": str(folder / one["run"])} for one in trained], built)


def _steps(run: Path) -> Path:
    """The same run file, counting steps in place of epochs."""
    other = run.with_name("steps.toml")
    other.write_text(run.read_text().replace("epochs = 10", "steps = 2"))
    return other


@dataclass(frozen=True)
class Shop:
    """The tables and the run file, not yet written, and an empty folder that one works in."""

    folder: Path
    text: str
    items: pl.DataFrame
    events: pl.DataFrame

    def write(
        self, *, items: pl.DataFrame | None = None, events: pl.DataFrame | None = None, edits: Mapping[str, str] | None = None
    ) -> Path:
        """Write tables and run file, with a table or pieces of the run file replaced."""
        (self.items if items is None else items).write_parquet(self.folder / "items.parquet")
        (self.events if events is None else events).write_parquet(self.folder / "events.parquet")
        text = self.text
        for old, new in (edits or {}).items():
            assert old in text, old
            text = text.replace(old, new)
        (self.folder / "run.toml").write_text(text)
        return self.folder

    def train(self, *more: object) -> Any:
        """``embedkit train run.toml``, tiny."""
        return call("train", "run.toml", *SMALL, *more)


@pytest.fixture
def shop(way: Way, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return Shop(folder, (way.folder / "steps.toml").read_text(), make_items(), make_events())
