"""Space and the digests it is made of."""

from __future__ import annotations

from dataclasses import replace

import pytest

from embedkit.errors import SpaceMismatch
from embedkit.space import Space, canonical_json, digest

SPACE = Space("a" * 32, "f" * 32, "item", 64, (16, 64))


def test_json_round_trip():
    assert Space.from_json(SPACE.to_json()) == SPACE


def test_another_space_is_refused_and_a_sister_tower_is_comparable():
    user = replace(SPACE, id="b" * 32, tower="user")
    SPACE.require_comparable(user, here="index", there="bundle")
    with pytest.raises(SpaceMismatch, match="embed and index again with one bundle"):
        SPACE.require_same(user, here="index", there="bundle")
    with pytest.raises(SpaceMismatch, match="cannot be compared"):
        SPACE.require_comparable(replace(user, family="0" * 32), here="index", there="bundle")


def test_digests_see_where_parts_end():
    assert digest([b"ab", b"c"]) != digest([b"a", b"bc"])
    assert digest([]) != digest([b""])


def test_canonical_json_ignores_the_order_of_keys_and_refuses_nan():
    assert canonical_json({"b": 1, "a": [1.5, "ü"]}) == canonical_json({"a": [1.5, "ü"], "b": 1})
    with pytest.raises(ValueError, match="JSON"):
        canonical_json(float("nan"))
