"""The check at the start, against a real log: old records stay readable, or nothing runs."""

from typing import Annotated, Any
from uuid import uuid4

import msgspec
import pytest
from msgspec import Meta, Struct, defstruct

from features.aggregations import Count, Sum
from features.definition import Definition, Number
from features.engine.engine import FeatureEngine
from features.records import FeatureCodec
from infra.schema_check import check_schemas, look_at_schemas
from serving.pipeline import Pipeline
from streams.dead_letters import VALIDATION_ERROR, DeadLetter
from streams.errors import DefinitionError
from streams.expressions import Value
from streams.kafka_client import producer
from streams.replay import offset_bounds, read_ranges
from streams.schema_log import Registry, SchemaLog
from streams.stream import EventStream, LabelStream
from streams.topics import Topics, dead_letter_topic, ensure_topics

pytestmark = pytest.mark.broker

START_MS = 1_700_000_000_000
BASE: list[Any] = [("id", str), ("user", str), ("at", int), ("amount", Annotated[int, Meta(ge=0)])]


class Label(Struct):
    id: str
    user: str
    known: int
    bad: bool


class Shop:
    """A pipeline whose event type changes from one start to the next."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self.topics = Topics(f"t{uuid4().hex[:8]}")
        ensure_topics(bootstrap, self.topics.specs(2))
        self.sent = 0

    def pipeline(
        self, *more: Any, fields: Any = BASE, features: Definition | None = None
    ) -> Pipeline:
        event = defstruct("Order", [*fields, *more])
        return Pipeline(
            name=self.topics.name,
            events=EventStream(event, id="id", entity="user", event_time="at", partitions=2),
            labels=LabelStream(
                Label, id="id", entity="user", event_time="known", target=Value("bad")
            ),
            features=features or Definition(1, {"n": Count("1h", "5m")}),
        )

    def start(self, pipeline: Pipeline, accept: bool = False) -> None:
        ensure_topics(self.bootstrap, pipeline.topic_specs)
        check_schemas(self.bootstrap, pipeline, accept=accept)

    def produce(self, n: int, **fields: Any) -> None:
        """Append ``n`` events of one user with these fields."""
        events = [
            {"id": f"e{i}", "user": "u", "at": START_MS + i * 1000, "amount": i, **fields}
            for i in range(self.sent, self.sent + n)
        ]
        self._send(self.topics.events, [msgspec.json.encode(event) for event in events])
        self.sent += n

    def compute(self) -> None:
        """Make it look as if definition 1 had computed features."""
        self._send(self.topics.features, [b"{}"])

    def refuse(self, **fields: Any) -> None:
        """Append a dead letter: an event that broke its type's rules."""
        value = msgspec.json.encode({"id": "d", "user": "u", "at": START_MS, **fields})
        topic = self.topics.events
        letter = DeadLetter(VALIDATION_ERROR, "no", topic, 0, 0, b"u", value, START_MS)
        body, key, headers = letter.to_record()
        client = producer(self.bootstrap)
        client.produce(dead_letter_topic(topic), body, key, 0, headers=[*headers])
        assert client.flush(30) == 0

    def registry(self) -> Registry:
        schemas = SchemaLog(self.bootstrap, self.topics.name)
        try:
            return schemas.read()
        finally:
            schemas.close()

    def _send(self, topic: str, values: list[bytes]) -> None:
        client = producer(self.bootstrap)
        for value in values:
            client.produce(topic, value, b"u", 0)
        assert client.flush(30) == 0


@pytest.fixture
def shop(bootstrap: str) -> Shop:
    return Shop(bootstrap)


def test_old_records_are_read_by_the_new_type_in_a_replay(shop: Shop) -> None:
    shop.start(shop.pipeline())
    shop.produce(5)
    # A field with a default is added and used by a new version of the definition.
    reads = Definition(2, {"tips": Sum(Value("tip"), "1h", "5m"), "tip": Number(Value("tip"))})
    evolved = shop.pipeline(("tip", float, 0.5), features=reads)
    shop.start(evolved)
    shop.produce(5, tip=2.0)
    (first, second) = shop.registry().types[shop.topics.events]
    assert (first.since["0"], second.since["0"]) == (0, 5)
    assert "tip: was absent, is number, default 0.5 (added)" in second.changes[0]

    engine = FeatureEngine(reads, evolved.events)
    rows: list[tuple[float, float]] = []
    bounds = offset_bounds(shop.bootstrap, shop.topics.events, 2)
    for batch in read_ranges(shop.bootstrap, shop.topics.events, {0: bounds[0]}):
        processed = engine.process(batch)
        assert not processed.dead
        FeatureCodec(reads, evolved.events).encode(processed.rows)
        rows += [(tips, tip) for tips, tip in processed.rows.numeric.tolist()]
    assert rows == [(0.5 * i, 0.5) for i in range(5)] + [(2.5 + 2.0 * i, 2.0) for i in range(5)]


def test_a_type_that_can_not_read_the_log_stops_the_start_and_is_not_recorded(shop: Shop) -> None:
    shop.start(shop.pipeline())
    shop.produce(1)
    broken = shop.pipeline(("tip", float), fields=[*BASE[:3], ("amount", str)])
    with pytest.raises(DefinitionError) as caught:
        shop.start(broken)
    message = str(caught.value)
    assert f"{shop.topics.events} (version 1) amount: was integer ≥ 0, is string" in message
    assert "tip: was absent, is number, required; give it a default" in message
    assert "--accept" not in message
    with pytest.raises(DefinitionError):
        shop.start(broken, accept=True)  # nobody can accept it
    assert len(shop.registry().types[shop.topics.events]) == 1
    looked = look_at_schemas(shop.bootstrap, broken)
    assert [d.field for d in looked.refused] == ["amount", "tip"]


def test_before_anything_is_written_a_type_changes_freely(shop: Shop) -> None:
    shop.start(shop.pipeline())
    shop.start(shop.pipeline(fields=[*BASE[:3], ("amount", str)]))
    shop.produce(1, amount="a")
    with pytest.raises(DefinitionError, match="amount: was string, is integer"):
        shop.start(shop.pipeline())


def test_dead_letters_that_a_looser_type_takes_are_found_and_can_be_accepted(shop: Shop) -> None:
    looser = shop.pipeline(fields=[*BASE[:3], ("amount", int)])
    shop.start(shop.pipeline())
    shop.produce(1)
    shop.refuse(amount=-1)
    shop.refuse(amount="a")
    shop.compute()
    with pytest.raises(DefinitionError, match=r"1 dead letters.*as a new version.*\n.*--accept"):
        shop.start(looser)
    shop.start(looser, accept=True)
    shop.start(looser)  # recorded, so no question any more
    assert any(
        "1 dead letters" in line for line in shop.registry().types[shop.topics.events][1].changes
    )


def test_a_definition_changed_after_it_has_computed_stops_the_start(shop: Shop) -> None:
    shop.start(shop.pipeline())
    changed = shop.pipeline(features=Definition(1, {"n": Count("2h", "5m")}))
    shop.start(changed)  # nothing was computed with it yet
    shop.compute()
    with pytest.raises(DefinitionError, match=r"n: was Count\(over='2h'.*is Count\(over='1h'"):
        shop.start(shop.pipeline())
