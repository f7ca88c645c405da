"""FieldSpec, Tower and Schema: what the columns of the tables mean. No torch here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from embedkit.space import canonical_json, digest

Role = Literal["feature", "key", "label", "group", "time", "weight"]


@dataclass(frozen=True)
class FieldSpec:
    """One field: a column of a table, read as a type.

    Attributes:
        name: unique in the schema; what towers, encoders and losses call it.
        type: registered field type (``number``, ``category``, ``categories``, ``timestamp``, ``text``, ``sequence``, or a plugin's).
        table: the run file's name of the table it is read from.
        column: the column in that table; ``None`` for a field that the table's relation makes (a user's history of events).
        domain: fields of one domain share a vocabulary and table rows; defaults to the field's own name.
        role: ``feature`` unless the table's relations say otherwise.
        options: the type's own options, validated by its configuration class.
    """

    name: str
    type: str
    table: str
    column: str | None
    domain: str
    role: Role = "feature"
    options: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict; ``FieldSpec(**data)`` turns it back."""
        return {
            "name": self.name,
            "type": self.type,
            "table": self.table,
            "column": self.column,
            "domain": self.domain,
            "role": self.role,
            "options": dict(self.options),
        }


@dataclass(frozen=True)
class Tower:
    """A named set of fields with its own trunk and head.

    ``table`` is the table whose rows the tower embeds: the one its fields stand in, or the events table for a tower with a history.
    """

    name: str
    fields: tuple[str, ...]
    table: str


@dataclass(frozen=True)
class Schema:
    """All fields and towers, and the key column of each table that has one."""

    fields: Mapping[str, FieldSpec]
    towers: Mapping[str, Tower]
    keys: Mapping[str, str]

    def tower_fields(self, tower: str) -> tuple[FieldSpec, ...]:
        """The fields of a tower in the order of the run file."""
        return tuple(self.fields[name] for name in self.towers[tower].fields)

    def of_table(self, table: str) -> Iterator[FieldSpec]:
        """The fields that are read from a table."""
        return (spec for spec in self.fields.values() if spec.table == table)

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict; ``from_json`` turns it back."""
        return {
            "fields": [spec.to_json() for spec in self.fields.values()],
            "towers": {t.name: {"fields": list(t.fields), "table": t.table} for t in self.towers.values()},
            "keys": dict(self.keys),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Schema:
        """Read what ``to_json`` wrote."""
        return cls(
            fields={f["name"]: FieldSpec(**f) for f in data["fields"]},
            towers={name: Tower(name, tuple(t["fields"]), t["table"]) for name, t in data["towers"].items()},
            keys=dict(data["keys"]),
        )

    @property
    def fingerprint(self) -> str:
        """Changes when a field, tower or key changes its meaning."""
        return digest([canonical_json(self.to_json())])
