from __future__ import annotations

import pytest

from embedkit import pace
from embedkit.pace import Pace, clock_text


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands until it is moved."""
    now = [100.0]
    monkeypatch.setattr(pace.time, "monotonic", lambda: now[0])
    return now


def test_a_line_is_said_after_some_seconds_and_at_the_end(clock):
    said = []
    tell = Pace(said.append, 1_000, "users")
    for done, second in ((100, 1), (300, 4), (600, 6), (700, 8), (900, 12), (1_000, 12.5)):
        clock[0] = 100.0 + second
        tell(done)
    assert said == [
        "600 of 1,000 users, 100 users/s, 0:04 left",
        "900 of 1,000 users, 75 users/s, 0:01 left",
        "1,000 of 1,000 users, 80 users/s, 0:00 left",
    ]


def test_nothing_done_in_no_time_divides_by_no_zero(clock):
    assert Pace(print, 10).text(10).startswith("10 of 10 rows, ")


def test_clock_text():
    assert [clock_text(seconds) for seconds in (3.2, 75, 3725)] == ["0:03", "1:15", "1:02:05"]
