from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest

from embedkit.reporting import svg
from embedkit.reporting.svg import Line, Mark, Row

NAMES = ["model", "popularity"]


def places(text: str, tag: str, attribute: str) -> list[float]:
    return [float(e.get(attribute)) for e in ET.fromstring(text).iter(tag) if e.get(attribute)]


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.31, 0.44), (0, 0.0007), (3, 9000), (-2, 5)])
def test_ticks_are_round_and_inside(low, high):
    found = svg.ticks(low, high)
    assert 3 <= len(found) <= 8
    assert low <= found[0] <= found[-1] <= high
    steps = {round((b - a) / (found[1] - found[0]), 6) for a, b in pairwise(found)}
    assert steps == {1.0}


def test_whiskers_stand_where_the_values_are():
    rows = [Row("model", [(0, Mark(0.4, 0.3, 0.5))]), Row("popularity", [(1, Mark(0.2))])]
    text = svg.whiskers("recall", rows, names=NAMES)
    first, second = places(text, "circle", "cx")
    left, right = next((float(e.get("x1")), float(e.get("x2"))) for g in ET.fromstring(text).iter("g") for e in g.iter("line"))
    assert left < first < right
    assert first - left == pytest.approx(right - first, abs=0.2)
    start = min(float(e.get("x1")) for e in ET.fromstring(text).iter("line"))
    assert first - start == pytest.approx(2 * (second - start), abs=0.3)
    assert "model, model: 0.4000 [0.3000, 0.5000]" in text


def test_a_logarithmic_axis_spreads_doublings_evenly():
    line = Line("ndcg", 0, [(float(x), Mark(0.1)) for x in (16, 32, 64)], dots=True)
    a, b, c = places(svg.lines("t", [line], x_label="x", y_label="y", log_x=True, x_ticks=[16, 32, 64]), "circle", "cx")
    assert b - a == pytest.approx(c - b, abs=0.2)


def test_every_chart_is_well_formed_whatever_names_hold():
    name = "<b>&\"' é</b>"
    texts = [
        svg.whiskers(name, [Row(name, [(0, Mark(0.0)), (1, Mark(0.0))])], names=[name, name]),
        svg.lines(name, [Line(name, 9, [(5.0, Mark(1.0, 1.0, 1.0))])], x_label=name, y_label=name),
        svg.labelled(name, [(name, 10.0, Mark(0.5)), (name, 10.1, Mark(0.4))], x_label=name, y_label="y", x_text=str),
        svg.cloud(name, [(1.0, 1.0, 0, name), (1.0, 1.0, 7, "x")]),
        f"<div>{svg.legend([name, name])}</div>",
    ]
    for text in texts:
        assert not re.search(r"nan|inf\b", text)
        tree = ET.fromstring(text)
        assert all(e.get("aria-label") == name for e in tree.iter("svg"))


@pytest.mark.parametrize(
    ("value", "text"), [(0.41873, "0.4187"), (10.156, "10.16"), (0.0, "0"), (123456.0, "123,456"), (float("nan"), "–")]
)
def test_numbers_are_short(value, text):
    assert svg.number(value) == text
