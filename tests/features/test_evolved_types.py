"""State saved under an old type goes on under a new one that may follow it, or is made anew."""

from typing import Annotated, Any

import msgspec
import numpy as np
import pytest
from msgspec import Meta, defstruct

from features.aggregations import Count, Mean, Sum
from features.definition import Category, Definition, Number
from features.engine.engine import FeatureEngine
from features.records import FeatureCodec
from streams.batch import LogBatch
from streams.errors import StateError
from streams.expressions import Above, Value
from streams.record_schema import schema_of
from streams.schemas import compare_schemas
from streams.stream import EventStream

START_MS = 1_700_000_000_000
ROLES: list[Any] = [("id", str), ("user", str), ("at", int)]
DEFINITION = Definition(
    1,
    {
        "sum": Sum(Value("amount"), "1m", "5s"),
        "mean": Mean(Value("amount"), "1m", "5s"),
        "dear": Count("1m", "5s", where=Above("amount", 3)),
        "amount": Number(Value("amount")),
        "zone": Category("zone"),
    },
)
WHOLE, POSITIVE = int, Annotated[int, Meta(ge=0)]


def stream(amount: Any, *more: Any) -> EventStream:
    zone = ("zone", str, "north")
    event = defstruct("Event", [*ROLES, ("amount", *amount), zone, *more], kw_only=True)
    return EventStream(event, id="id", entity="user", event_time="at", partitions=1)


def batch(first: int, n: int, missing: bool = False) -> LogBatch:
    values: list[bytes | None] = []
    for i in range(first, first + n):
        event = {"id": f"e{i}", "user": f"u{i % 3}", "at": START_MS + i * 1000, "amount": i % 7}
        if missing and i % 4 == 0:
            del event["amount"]
        values.append(msgspec.json.encode(event))
    offsets = np.arange(first, first + n)
    return LogBatch("t", 0, offsets, START_MS + offsets * 1000, [b"u"] * n, values, first + n)


def values(engine: FeatureEngine, events: EventStream, given: LogBatch) -> list[bytes]:
    return FeatureCodec(DEFINITION, events).encode(engine.process(given).rows)


@pytest.mark.parametrize(
    ("old", "new", "misses"),
    [
        ((WHOLE,), (float,), False),
        ((POSITIVE,), (WHOLE,), False),
        ((WHOLE,), (WHOLE | None,), False),
        ((WHOLE,), (WHOLE | None, None), True),
        ((WHOLE,), (WHOLE, 5), True),
    ],
    ids=["wider", "looser", "nullable", "optional", "with a default"],
)
def test_a_snapshot_of_the_old_type_gives_the_same_as_the_log_read_by_the_new(
    old: Any, new: Any, misses: bool
) -> None:
    before, after = stream(old), stream(new, ("note", str, ""))
    changes = compare_schemas(schema_of(before.type), schema_of(after.type))
    assert changes
    assert all(change.compatible for change in changes)

    first, second = batch(0, 50), batch(50, 50, missing=misses)
    whole = FeatureEngine(DEFINITION, after)
    expected = values(whole, after, first) + values(whole, after, second)
    engine = FeatureEngine(DEFINITION, before)
    made = values(engine, before, first)
    try:
        restored = FeatureEngine.restore(DEFINITION, after, engine.snapshot())
    except StateError:  # refused, so the worker computes it again from the log
        restored = FeatureEngine(DEFINITION, after)
        values(restored, after, first)
    assert made + values(restored, after, second) == expected
