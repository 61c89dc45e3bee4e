"""The pipeline's topics as an AsyncAPI document, generated from the types that write them. Pure."""

from typing import Any

import msgspec

from features.records import FeatureCodec
from serving.pipeline import Pipeline
from streams.schema_log import SchemaEvent, schemas_topic
from streams.wire import (
    Alert,
    Command,
    Metric,
    ModelEvent,
    Outcome,
    Prediction,
    Request,
    Vitals,
)

ASYNCAPI = "3.0.0"
REFERENCES = "#/components/schemas/{name}"


def asyncapi(pipeline: Pipeline) -> dict[str, Any]:
    """Return the document: a channel per topic, a JSON Schema per record type."""
    topics = pipeline.topics
    features = FeatureCodec(pipeline.features, pipeline.events).record_type
    record_types: dict[str, tuple[str, Any]] = {
        topics.events: ("what is predicted on", pipeline.events.type),
        topics.labels: ("what turned out", pipeline.labels.type),
        topics.features: ("one record per valid event", features),
        topics.predictions: ("one answer per event, exactly once", Prediction),
        topics.shadow: ("answers of versions in shadow", Prediction),
        topics.outcomes: ("predictions with their labels", Outcome),
        topics.requests: ("what was asked over HTTP, and the answers", Request),
        topics.alerts: ("what the monitors found", Alert),
        topics.metrics: ("figures of closed windows", Metric),
        topics.health: ("how the processes are", Vitals),
        topics.models: ("the rollout, by key", ModelEvent),
        topics.commands: ("retrain, advance, retried", Command),
        schemas_topic(pipeline.name): ("types and definitions the log was made by", SchemaEvent),
    }
    types = [record_type for _, record_type in record_types.values()]
    schemas, components = msgspec.json.schema_components(types, ref_template=REFERENCES)
    partitions = {spec.name: spec.partitions for spec in pipeline.topic_specs}
    channels = {
        topic: {
            "address": topic,
            "description": description,
            "bindings": {"kafka": {"topic": topic, "partitions": partitions.get(topic, 1)}},
            "messages": {"value": {"contentType": "application/json", "payload": schema}},
        }
        for (topic, (description, _)), schema in zip(record_types.items(), schemas, strict=True)
    }
    return {
        "asyncapi": ASYNCAPI,
        "info": {
            "title": f"kappa pipeline {pipeline.name}",
            "version": f"{pipeline.features.version}",
            "description": f"definition {pipeline.definition_hash}",
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "components": {"schemas": components},
    }
