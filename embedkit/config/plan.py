"""Plan: a run file with every name resolved to a registry entry and every option validated. No torch.

``RunConfig`` is what was written; ``Plan`` is what it means. A bundle records the ``ModelSpec`` of its plan.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from embedkit.component import Component, Config
from embedkit.config.model import RunConfig
from embedkit.errors import EmbedkitError
from embedkit.registry import Entry, Registry
from embedkit.schema import Schema


@dataclass(frozen=True)
class Part:
    """A component that a plan uses: its entry and its validated options."""

    entry: Entry
    config: Config

    def create(self, context: Any) -> Component:
        """Build the component. Errors name the plugin that owns it."""
        return self.entry.create(self.config, context=context)

    def to_json(self) -> dict[str, Any]:
        """``{"use": "plugin:name", "distribution": …, "version": …, "options": {…}}``, defaults included."""
        return {
            "use": self.entry.qualified,
            "distribution": self.entry.owner.distribution,
            "version": self.entry.owner.version,
            "options": self.config.model_dump(mode="json", by_alias=True),
        }

    @classmethod
    def from_json(cls, kind: str, data: Mapping[str, Any], registry: Registry, *, where: str) -> Part:
        """Read what ``to_json`` wrote.

        Raises:
            PluginError: the plugin is not here: ``needs encoder acme:bert from acme-embeds 0.3``.
        """
        try:
            entry = registry.entry(kind, data["use"], distribution=data.get("distribution"), version=data.get("version"))
        except EmbedkitError as error:
            raise type(error)(f"{where}: {error}") from error
        return cls(entry, entry.parse(data["options"], where=where))


@dataclass(frozen=True)
class EncoderPart(Part):
    """An encoder and the fields it serves, in run-file order."""

    fields: tuple[str, ...] = ()


@dataclass(frozen=True)
class ModelSpec:
    """What a model is built from, data statistics apart.

    Attributes:
        schema: fields and towers.
        field_types: field → codec part.
        dim: token width D.
        encoders: every feature field of a tower is served by exactly one.
        trunks: tower → trunk.
        heads: tower → head.
        seed: for salts.
        shared_trunks: tower → the tower whose trunk it uses; ``trunks`` then says the same of both.
    """

    schema: Schema
    field_types: Mapping[str, Part]
    dim: int
    encoders: tuple[EncoderPart, ...]
    trunks: Mapping[str, Part]
    heads: Mapping[str, Part]
    seed: int = 0
    shared_trunks: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict; ``from_json`` turns it back."""
        return {
            "schema": self.schema.to_json(),
            "field_types": {name: part.to_json() for name, part in self.field_types.items()},
            "dim": self.dim,
            "encoders": [part.to_json() | {"fields": list(part.fields)} for part in self.encoders],
            "trunks": {name: part.to_json() for name, part in self.trunks.items()},
            "heads": {name: part.to_json() for name, part in self.heads.items()},
            "seed": self.seed,
            "shared_trunks": dict(self.shared_trunks),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], registry: Registry, *, where: str) -> ModelSpec:
        """Read what ``to_json`` wrote; ``where`` (a file) stands in messages."""

        def part(kind: str, value: Mapping[str, Any]) -> Part:
            return Part.from_json(kind, value, registry, where=where)

        encoders = []
        for value in data["encoders"]:
            one = part("encoder", value)
            encoders.append(EncoderPart(one.entry, one.config, tuple(value["fields"])))
        return cls(
            schema=Schema.from_json(data["schema"]),
            field_types={name: part("field_type", value) for name, value in data["field_types"].items()},
            dim=data["dim"],
            encoders=tuple(encoders),
            trunks={name: part("trunk", value) for name, value in data["trunks"].items()},
            heads={name: part("head", value) for name, value in data["heads"].items()},
            seed=data["seed"],
            shared_trunks=data.get("shared_trunks", {}),
        )


@dataclass(frozen=True)
class Plan:
    """A run file, resolved.

    Attributes:
        config: the run file with every default filled in and every name qualified: what ``run.resolved.toml`` holds.
        base: folder that relative paths in the run file start from.
        model: what the model is built from.
        stages: in order.
        evaluators: in order.
        index: index backend.
    """

    config: RunConfig
    base: Path
    model: ModelSpec
    stages: tuple[Part, ...]
    evaluators: tuple[Part, ...]
    index: Part
    registry: Registry = field(repr=False, compare=False)

    @property
    def schema(self) -> Schema:
        """Fields and towers."""
        return self.model.schema
