"""Space: the identity of a vector space.

Two vectors may be compared only when their spaces have equal ``id``, or are two towers of one ``family``. Prefix length, precision
and quantisation belong to an index, not to a space (decision 23).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from embedkit.errors import SpaceMismatch

Metric = Literal["cosine", "dot"]


@dataclass(frozen=True)
class Space:
    """What makes vectors comparable.

    Attributes:
        id: blake2b-128 (hex) over what produces the vectors of one tower: fields, codec files, inference configuration, weights.
        family: shared by the towers that were trained together; a query of one may be compared with items of another.
        tower: the tower whose rows these vectors stand for.
        dim: width E of a full vector.
        prefixes: nested widths that are meaningful on their own, ascending, the last equal to ``dim``.
        metric: ``cosine`` (vectors are compared after normalisation) or ``dot``.
        normalized: whether the vectors already have unit length.
    """

    id: str
    family: str
    tower: str
    dim: int
    prefixes: tuple[int, ...]
    metric: Metric = "cosine"
    normalized: bool = True

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict; ``from_json`` turns it back."""
        return asdict(self) | {"prefixes": list(self.prefixes)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Space:
        """Read what ``to_json`` wrote."""
        return cls(**{**data, "prefixes": tuple(data["prefixes"])})

    def require_same(self, other: Space, *, here: str, there: str) -> None:
        """Raise ``SpaceMismatch`` unless both are one space. ``here`` and ``there`` name the two holders in the message."""
        if self.id != other.id:
            raise SpaceMismatch(
                f"{here} has vectors of space {self.id[:12]} (tower {self.tower}), {there} of space {other.id[:12]} "
                f"(tower {other.tower}): embed and index again with one bundle"
            )

    def require_comparable(self, other: Space, *, here: str, there: str) -> None:
        """Raise ``SpaceMismatch`` unless vectors of both may be compared (equal id, or one family)."""
        if self.id != other.id and self.family != other.family:
            raise SpaceMismatch(
                f"{here} belongs to model family {self.family[:12]}, {there} to {other.family[:12]}: "
                "their vectors cannot be compared; embed and index again with one bundle"
            )


def digest(parts: Iterable[bytes]) -> str:
    """blake2b-128 in hex over length-prefixed parts, so that no two part lists collide by concatenation."""
    h = hashlib.blake2b(digest_size=16)
    for part in parts:
        h.update(len(part).to_bytes(8, "little"))
        h.update(part)
    return h.hexdigest()


def canonical_json(value: Any) -> bytes:
    """One byte string per JSON value: sorted keys, no spaces. What is hashed for identities."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
