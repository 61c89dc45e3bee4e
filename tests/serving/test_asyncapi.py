"""The generated document describes what the topics hold."""

from examples.citibike import pipeline
from serving.asyncapi import asyncapi


def test_every_topic_but_the_dead_letters_has_a_schema() -> None:
    document = asyncapi(pipeline)
    named = {spec.name for spec in pipeline.topic_specs if not spec.name.endswith(".dlq")}
    assert set(document["channels"]) == {*named, "citibike.schemas.v1"}
    events = document["channels"]["citibike.events.v1"]
    assert events["bindings"]["kafka"]["partitions"] == pipeline.events.partitions


def test_constraints_and_features_are_in_the_schemas() -> None:
    schemas = asyncapi(pipeline)["components"]["schemas"]
    assert schemas["TripEnd"]["properties"]["duration_s"] == {"type": "number", "minimum": 0}
    assert set(schemas["Features"]["properties"]) == set(pipeline.features.features)


def test_references_resolve() -> None:
    document = asyncapi(pipeline)
    text = str(document)
    for part in text.split("#/components/schemas/")[1:]:
        assert part.split("'")[0] in document["components"]["schemas"]
