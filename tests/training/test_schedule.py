from __future__ import annotations

import pytest

from embedkit.config.model import Schedule
from embedkit.errors import UsageError
from embedkit.training.schedule import Clock, as_steps, peak


def values(total, **options):
    schedule = Schedule.model_validate(options)
    return [Clock(step, total).value(schedule) for step in range(total)]


def test_a_number_stays():
    assert Clock(3, 10).value(0.5) == 0.5
    assert peak(0.5) == 0.5


def test_warmup_then_linear():
    found = values(10, **{"from": 1.0, "to": 0.0, "warmup": 4, "over": 8})
    assert found == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0, 0.0])


def test_cosine_and_exponential_pass_the_middle_where_they_should():
    cosine = values(101, **{"from": 1.0, "to": 0.0, "shape": "cosine", "over": 100})
    exponential = values(101, **{"from": 1.0, "to": 1e-4, "shape": "exponential", "over": 100})
    assert (cosine[0], cosine[50], cosine[100]) == pytest.approx((1.0, 0.5, 0.0))
    assert cosine[25] == pytest.approx(0.853553)
    assert (exponential[0], exponential[50], exponential[100]) == pytest.approx((1.0, 1e-2, 1e-4))


def test_shares_count_from_the_whole_stage():
    assert as_steps("10%", 250) == 25
    found = values(20, **{"from": 2.0, "to": 4.0, "warmup": "10%", "over": "50%"})
    assert found[:2] == pytest.approx([1.0, 2.0])
    assert found[10:] == pytest.approx([4.0] * 10)


def test_exponential_to_zero_is_refused():
    with pytest.raises(UsageError, match="cannot go from 1 to 0"):
        values(3, **{"from": 1.0, "to": 0.0, "shape": "exponential"})


def test_progress():
    assert [Clock(step, 4).progress for step in (0, 2, 4)] == [0.0, 0.5, 1.0]
