"""The section of topics, from what the broker tells."""

from __future__ import annotations

from serving.dashboard.documents.topics import Partition, TopicFigures, TopicList
from serving.dashboard.flow import Picture
from serving.dashboard.measuring import Measured
from serving.dashboard.rates import Rates

ORDER = ("source", "features", "answers", "figures", "control", "dead_letters", "other")


def topics_document(
    revision: int, picture: Picture, measured: Measured | None, rates: Rates
) -> TopicList:
    """Return all topics of a pipeline in the order of the data."""
    names = sorted(
        picture.partitions, key=lambda t: (ORDER.index(picture.kinds.get(t, "other")), t)
    )
    return TopicList(
        revision=revision, topics=[_figures(each, picture, measured, rates) for each in names]
    )


def _figures(topic: str, picture: Picture, measured: Measured | None, rates: Rates) -> TopicFigures:
    kind = picture.kinds.get(topic, "other")
    if measured is None or topic not in measured.ends:
        return TopicFigures(topic, kind, False, 0, None, None, [])
    begins = measured.begins.get(topic, {})
    return TopicFigures(
        topic,
        kind,
        True,
        measured.records(topic),
        rates.of(topic),
        measured.sizes.get(topic),
        [Partition(p, begins.get(p, 0), end) for p, end in sorted(measured.ends[topic].items())],
    )
