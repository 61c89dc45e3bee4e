"""Which stage of the chain makes which features: one stage per entity key."""

from features.aggregations import Remembering
from features.definition import Definition
from streams.stream import EventStream, LabelStream


def stage_features(
    definition: Definition, events: EventStream, labels: LabelStream | None, stage: int
) -> list[str]:
    """Return the names of the features that remember by the key of ``stage``, declared order."""
    key = definition.keys(events, labels)[stage]
    return [
        name
        for name, feature in definition.features.items()
        if isinstance(feature, Remembering) and (feature.by or events.entity) == key
    ]


def earlier_features(
    definition: Definition, events: EventStream, labels: LabelStream | None, stage: int
) -> list[str]:
    """Return the names of the features made in the stages before ``stage``, declared order."""
    keys = definition.keys(events, labels)[:stage]
    return [
        name
        for name, feature in definition.features.items()
        if isinstance(feature, Remembering) and (feature.by or events.entity) in keys
    ]


def label_stage(
    definition: Definition, events: EventStream, labels: LabelStream | None
) -> int | None:
    """Return the stage that reads the labels; None where no feature is made of them."""
    if labels is None or not definition.reads_labels:
        return None
    return definition.keys(events, labels).index(labels.entity)
