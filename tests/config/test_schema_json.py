from __future__ import annotations

from embedkit.config.schema_json import run_schema


def references(value):
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"]
        for one in value.values():
            yield from references(one)
    elif isinstance(value, list):
        for one in value:
            yield from references(one)


def test_every_reference_leads_somewhere(registry):
    schema = run_schema(registry)
    for reference in references(schema):
        assert reference.removeprefix("#/$defs/") in schema["$defs"], reference


def test_components_bring_their_options_and_the_keys_of_their_kind(registry):
    schema = run_schema(registry)
    loss = schema["$defs"]["options-loss-fake-sampled_softmax"]
    assert loss["properties"]["use"] == {"enum": ["sampled_softmax", "fake:sampled_softmax"]}
    assert {"weight", "name", "query", "target"} <= set(loss["properties"])
    assert set(loss["required"]) == {"use", "query", "target"}
    field = schema["$defs"]["options-field_type-fake-number"]
    assert {"table", "type", "scale"} <= set(field["properties"])
    assert schema["properties"]["fields"]["additionalProperties"] == {"$ref": "#/$defs/kind-field_type"}


def test_a_name_with_a_default_may_be_left_out(registry):
    stream = run_schema(registry)["$defs"]["options-sampler-fake-shuffle"]
    assert stream["required"] == ["table"]
