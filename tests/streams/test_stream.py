"""Declarations of the two source streams, checked when they are made."""

from typing import Annotated, Any

import msgspec
import pytest

from streams.errors import DefinitionError
from streams.expressions import Above
from streams.stream import EventStream, LabelStream, check_fields


class Trip(msgspec.Struct):
    trip: str
    bike: int
    at_ms: int
    station: Annotated[str, msgspec.Meta(min_length=1)]
    minutes: float
    note: str | None = None


EVENTS: dict[str, Any] = {"type": Trip, "id": "trip", "entity": "bike", "event_time": "at_ms"}
LABELS: dict[str, Any] = {**EVENTS, "target": Above("minutes", 15.0)}


def test_lengths_are_given_in_milliseconds() -> None:
    stream = EventStream(**EVENTS, lateness="90s", dedupe="2d")
    assert (stream.lateness_ms, stream.dedupe_ms) == (90_000, 172_800_000)


@pytest.mark.parametrize("entity", ["bike", "trip", "station"])
def test_a_key_may_be_text_or_integer_with_constraints(entity: str) -> None:
    assert EventStream(**{**EVENTS, "entity": entity}).entity == entity


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"entity": "bicycle"}, "entity='bicycle': Trip has no such field; it has trip, bike"),
        ({"id": "nr"}, "id='nr': Trip has no such field"),
        ({"entity": "minutes"}, "entity='minutes': .*must be str or int"),
        ({"entity": "note"}, "entity='note': .*must be str or int"),
        ({"event_time": "minutes"}, "event_time='minutes': .*must be int"),
        ({"event_time": "trip"}, "event_time='trip': .*must be int"),
        ({"partitions": 0}, "partitions=0 .*at least 1"),
        ({"lateness": "1 hour"}, "'1 hour' is not a length of time"),
        ({"dedupe": ""}, "'' is not a length of time"),
    ],
)
def test_events_that_cannot_work_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        EventStream(**{**EVENTS, **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": Above("duration", 1.0)}, "target='duration': Trip has no such field"),
        ({"entity": "nobody"}, "entity='nobody'"),
        ({"event_time": "station"}, "event_time='station': .*must be int"),
    ],
)
def test_labels_that_cannot_work_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        LabelStream(**{**LABELS, **change})


def test_any_type_will_do_where_none_is_asked_for() -> None:
    check_fields(Trip, {"group 'note'": "note"}, None)
    assert LabelStream(**LABELS).target == Above("minutes", 15.0)
