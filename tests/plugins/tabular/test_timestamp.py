from __future__ import annotations

import datetime as dt
import math

import pyarrow as pa
import pytest

from embedkit.data.codec import BadValue
from embedkit.testing.conformance.codec import CodecConformance
from embedkit_tabular.fields import TimestampOptions
from embedkit_tabular.timestamp import Timestamp


class TestMoments(CodecConformance):
    codec = Timestamp
    options = TimestampOptions()
    values = pa.array([dt.datetime(2020, 1, 1), None, dt.datetime(2021, 6, 5, 4, 3, 2), dt.datetime(1950, 2, 28)])
    unseen = pa.array([dt.datetime(2030, 1, 1), dt.datetime(1, 1, 1), dt.datetime(9999, 12, 31, 23, 59)])
    wrong = (pa.array([1]), pa.array(["2020-01-01"]))


class TestDates(CodecConformance):
    codec = Timestamp
    options = TimestampOptions()
    values = pa.array([dt.date(2020, 1, 1), None, dt.date(2021, 6, 5)])


class TestSeconds(CodecConformance):
    codec = Timestamp
    options = TimestampOptions(unit="s")
    values = pa.array([978300760, None, 978302109])
    wrong = (pa.array([1.5]),)


class TestZonedNanoseconds(CodecConformance):
    codec = Timestamp
    options = TimestampOptions()
    values = pa.array([1, None, -(10**18)], pa.timestamp("ns", "America/New_York"))


def angles(moment):
    return TestMoments().fitted().encode(pa.array([moment])).values[0, :6].reshape(3, 2)


def degrees(pair):
    return math.degrees(math.atan2(pair[0], pair[1])) % 360


def test_angles():
    noon_thursday = angles(dt.datetime(1970, 1, 1, 12))
    assert degrees(noon_thursday[0]) == pytest.approx(180, abs=1e-3)
    assert degrees(noon_thursday[1]) == pytest.approx(360 * 3.5 / 7, abs=1e-3)
    assert degrees(noon_thursday[2]) == pytest.approx(360 * 0.5 / 365, abs=1e-3)
    assert degrees(angles(dt.datetime(2024, 1, 1))[1]) == pytest.approx(0, abs=1e-3)  # a Monday
    leap, common = angles(dt.datetime(2020, 12, 31, 23, 59, 59)), angles(dt.datetime(2021, 12, 31, 23, 59, 59))
    assert degrees(leap[2]) == pytest.approx(degrees(common[2]), abs=1e-3)  # both years end together
    assert degrees(angles(dt.datetime(1965, 3, 1, 6))[0]) == pytest.approx(90, abs=1e-3)  # before 1970 too


def test_zones_count_in_utc():
    codec = TestMoments().fitted()
    utc = dt.datetime(2021, 1, 4, 12, tzinfo=dt.UTC)
    zoned = pa.array([utc], pa.timestamp("s", "Asia/Tokyo"))
    assert codec.encode(zoned).values.equal(codec.encode(pa.array([dt.datetime(2021, 1, 4, 12)])).values)


def test_trend_is_standardised_and_cut():
    codec = TestMoments().fitted()
    trend = codec.encode(TestMoments.values).values[[0, 2, 3], 6]
    assert float(trend.mean()) == pytest.approx(0, abs=1e-6)
    assert codec.encode(pa.array([dt.datetime(9999, 1, 1)])).values[0, 6] == 10
    assert codec.stats.width == 7


def test_integers_need_a_unit():
    with pytest.raises(BadValue, match=r"row 0: found 5 \(int64\), wanted a date or datetime: set unit"):
        TestMoments().fitted([pa.array([5])])
    assert len(TestSeconds().fitted().encode(pa.array([0]))) == 1
