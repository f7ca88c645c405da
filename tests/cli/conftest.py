from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest


@dataclass
class Answer:
    """What a command did."""

    code: int
    out: str
    err: str


@pytest.fixture
def embedkit(capsys) -> Callable[..., Answer]:
    """Run the command line in this process."""
    from embedkit.cli import main

    def run(*arguments: object) -> Answer:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Answer(code, captured.out, captured.err)

    return run


@pytest.fixture
def shop(tmp_path):
    """Sixty items, forty users, events with times: enough to go the whole way in seconds."""
    import polars as pl

    colours, things = ["red", "green", "blue", "black"], ["gloves", "hat", "scarf", "shirt", "socks"]
    items = [
        {
            "item_id": f"i{n:03d}",
            "title": f"{colours[n % 4]} {things[n % 5]} number {n}",
            "brand": f"brand {n % 7}",
            "price": 3.5 + (n * 37) % 90,
        }
        for n in range(60)
    ]
    events = []
    for user in range(40):
        for step in range(12):
            item = (user * 7 + step * (1 + user % 3)) % 60
            events.append({"user_id": f"u{user:02d}", "item_id": f"i{item:03d}", "at": 1_700_000_000 + 90_000 * step + 37 * user})
    pl.DataFrame(items).write_parquet(tmp_path / "items.parquet")
    frame = pl.DataFrame(events).with_columns(pl.from_epoch("at", time_unit="s"))
    frame.write_parquet(tmp_path / "events.parquet")
    return tmp_path
