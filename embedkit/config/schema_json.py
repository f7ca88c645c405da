"""JSON Schema of run files with the options of every registered component: what an editor completes and checks by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from embedkit.config.model import EncoderUse, FieldConfig, LossUse, RunConfig, StreamConfig, TrainConfig, Use, ViewUse
from embedkit.errors import PluginError
from embedkit.registry import Registry

_REF = "#/$defs/{}"


def run_schema(registry: Registry) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a run file.

    Wherever a component is named, the name decides which options may stand beside it. A component whose options cannot be imported is
    left open rather than left out.
    """
    schema = RunConfig.model_json_schema(by_alias=True, ref_template=_REF.replace("{}", "{model}"))
    train = TrainConfig.model_json_schema(by_alias=True, ref_template=_REF.replace("{}", "{model}"))
    defs: dict[str, Any] = schema.setdefault("$defs", {})
    defs |= train.pop("$defs")
    kinds: dict[str, tuple[type[BaseModel], str]] = {
        "stage": (Use, "use"),
        "evaluator": (Use, "use"),
        "index": (Use, "use"),
        "trunk": (Use, "use"),
        "head": (Use, "use"),
        "optimizer": (Use, "use"),
        "loss": (LossUse, "use"),
        "augmentation": (ViewUse, "use"),
        "encoder": (EncoderUse, "use"),
        "sampler": (StreamConfig, "sampler"),
        "field_type": (FieldConfig, "type"),
    }
    for kind, (base, key) in kinds.items():
        defs[f"kind-{kind}"] = _choice(
            kind, base.model_json_schema(by_alias=True, ref_template=_REF.replace("{}", "{model}")), key, registry, defs
        )
    _point(schema["properties"], {"stages": "stage", "evaluate": "evaluator", "index": "index", "fields": "field_type"})
    _point(defs["ModelConfig"]["properties"], {"encoders": "encoder", "trunk": "trunk", "trunks": "trunk", "head": "head", "heads": "head"})
    for name, definition in defs.items():
        if name == "TrainConfig" or (name.startswith("options-stage-") and "losses" in definition.get("properties", {})):
            pointed = {
                "losses": "loss",
                "views": "augmentation",
                "streams": "sampler",
                "optimizer": "optimizer",
                "table_optimizer": "optimizer",
            }
            _point(definition["properties"], pointed)
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "embedkit run file"
    return schema


def _choice(kind: str, base: dict[str, Any], key: str, registry: Registry, defs: dict[str, Any]) -> dict[str, Any]:
    """One branch a component: its name, the keys every one of its kind has, and its own options; nothing else."""
    defs |= base.pop("$defs", {})
    branches = []
    for entry in registry.entries(kind):
        names = {"enum": [entry.name, entry.qualified]}
        try:
            options = entry.config_class().model_json_schema(by_alias=True, ref_template=_REF.replace("{}", "{model}"))
        except PluginError:
            branches.append({**base, "properties": base["properties"] | {key: names}})
            continue
        defs |= options.pop("$defs", {})
        name = f"options-{kind}-{entry.qualified.replace(':', '-')}"
        required = [*base.get("required", ()), *options.get("required", ())]
        # With a default the name itself may be left out; then the branch of the default holds.
        shown = base["properties"].get(key, {})
        if "default" in shown and shown["default"] in names["enum"]:
            required = [one for one in required if one != key]
            names = names | {"default": shown["default"]}
        elif key not in required:
            required.append(key)
        defs[name] = {
            "title": entry.qualified,
            "description": entry.summary,
            "type": "object",
            "properties": options.get("properties", {}) | base["properties"] | {key: names},
            "required": list(dict.fromkeys(required)),
            "additionalProperties": False,
        }
        branches.append({"$ref": _REF.format(name)})
    return {"anyOf": branches} if branches else base


def _point(properties: dict[str, Any], kinds: Mapping[str, str]) -> None:
    """Let properties refer to the choice of a kind: in a list, in a table, or alone."""
    for name, kind in kinds.items():
        found, reference = properties[name], {"$ref": _REF.format(f"kind-{kind}")}
        if found.get("type") == "array":
            found["items"] = reference
        elif found.get("type") == "object":
            found["additionalProperties"] = reference
        else:
            kept = {key: found[key] for key in ("description", "default") if key in found}
            properties[name] = reference | kept if "anyOf" not in found else {"anyOf": [reference, {"type": "null"}]} | kept
