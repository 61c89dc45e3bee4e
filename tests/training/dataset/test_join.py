"""The point-in-time join against an obvious oracle, one record after another."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.errors import TrainingError
from training.dataset.join import digest, join, prepare, split


@dataclass(frozen=True)
class Event:
    partition: int
    offset: int
    source_offset: int
    event_id: str
    time_ms: int


@dataclass(frozen=True)
class Label:
    partition: int
    offset: int
    valid: bool
    event_id: str | None
    time_ms: int
    target: float


def feature_table(events: list[Event]) -> pa.Table:
    return pa.table(
        {
            "offset": pa.array([e.offset for e in events], pa.int64()),
            "partition": pa.array([e.partition for e in events], pa.int32()),
            "source_offset": pa.array([e.source_offset for e in events], pa.int64()),
            "event_id": pa.array([e.event_id for e in events], pa.string()),
            "entity": pa.array(["x"] * len(events), pa.string()),
            "event_time_ms": pa.array([e.time_ms for e in events], pa.int64()),
            "f.value": pa.array([float(e.source_offset) for e in events], pa.float64()),
            "c.kind": pa.array([e.event_id[:1] for e in events], pa.string()),
        }
    )


def label_table(labels: list[Label]) -> pa.Table:
    return pa.table(
        {
            "offset": pa.array([x.offset for x in labels], pa.int64()),
            "partition": pa.array([x.partition for x in labels], pa.int32()),
            "valid": pa.array([x.valid for x in labels], pa.bool_()),
            "event_id": pa.array([x.event_id for x in labels], pa.string()),
            "event_time_ms": pa.array([x.time_ms for x in labels], pa.int64()),
            "target": pa.array([x.target for x in labels], pa.float64()),
        }
    )


def oracle(
    events: list[Event], labels: list[Label], since_ms: int, cutoff_ms: int, label_cutoff_ms: int
) -> list[tuple[str, float]]:
    """What the join must return, as (event id, target) in order."""
    answers: dict[str, float] = {}
    for label in sorted(labels, key=lambda x: (x.partition, x.offset)):
        if label.valid and label.event_id is not None and label.time_ms <= label_cutoff_ms:
            answers.setdefault(label.event_id, label.target)
    first: dict[str, Event] = {}
    for event in sorted(events, key=lambda e: (e.partition, e.offset)):
        first.setdefault(event.event_id, event)
    rows = [
        e for e in first.values() if since_ms <= e.time_ms < cutoff_ms and e.event_id in answers
    ]
    rows.sort(key=lambda e: (e.time_ms, e.partition, e.source_offset))
    return [(e.event_id, answers[e.event_id]) for e in rows]


ids = st.sampled_from([f"{kind}{i}" for kind in "abå" for i in range(6)])
times = st.integers(0, 6)  # few, so that times meet the bounds


@st.composite
def logs(draw: st.DrawFn) -> tuple[list[Event], list[Label]]:
    """Two partitions of each topic, with repeats, strays and bad labels, rows in any order."""
    events: list[Event] = []
    labels: list[Label] = []
    for partition in range(2):
        for i, (event_id, time_ms) in enumerate(draw(st.lists(st.tuples(ids, times), max_size=12))):
            events.append(Event(partition, 2 * i, i, event_id, time_ms))
        drawn = draw(st.lists(st.tuples(ids, times, st.booleans(), st.booleans()), max_size=12))
        for i, (event_id, time_ms, positive, valid) in enumerate(drawn):
            known = event_id if valid else None
            labels.append(Label(partition, i, valid, known, time_ms, float(positive)))
    return draw(st.permutations(events)), draw(st.permutations(labels))


@settings(deadline=None)
@given(logs(), times, times, times)
def test_equals_the_oracle(
    log: tuple[list[Event], list[Label]], since: int, cutoff: int, label_cutoff: int
) -> None:
    events, labels = log
    joined = join(
        feature_table(events),
        label_table(labels),
        since_ms=since,
        cutoff_ms=cutoff,
        label_cutoff_ms=label_cutoff,
    )
    got = list(zip(joined.columns["event_id"].to_pylist(), joined.targets.tolist(), strict=True))
    assert got == oracle(events, labels, since, cutoff, label_cutoff)
    assert joined.counts["examples"] == len(got)
    assert joined.counts["invalid_labels"] == sum(not x.valid for x in labels)


@settings(deadline=None)
@given(logs(), st.data())
def test_chunks_and_order_of_reading_change_nothing(
    log: tuple[list[Event], list[Label]], data: st.DataObject
) -> None:
    events, labels = log
    cut = data.draw(st.integers(0, len(events)))
    chunked = pa.concat_tables([feature_table(events[:cut]), feature_table(events[cut:])])
    bounds = {"cutoff_ms": 5, "label_cutoff_ms": 5}
    one = join(feature_table(events[::-1]), label_table(labels[::-1]), **bounds)
    other = join(chunked, label_table(labels), **bounds)
    assert digest(one) == digest(other)


def example(n: int, *, late_offset: int = 0) -> tuple[list[Event], list[Label]]:
    events = [Event(0, i + late_offset, i, f"e{i}", i) for i in range(n)]
    labels = [Label(0, i, True, f"e{i}", i + 1, float(i % 2)) for i in range(n)]
    return events, labels


def test_label_known_after_the_cutoff_is_not_used() -> None:
    events, labels = example(10)
    joined = join(feature_table(events), label_table(labels), cutoff_ms=100, label_cutoff_ms=5)
    assert joined.columns["event_id"].to_pylist() == [f"e{i}" for i in range(5)]
    assert joined.counts["labels_after_cutoff"] == 5


def test_records_repeated_after_a_crash_change_no_digest() -> None:
    events, labels = example(10)
    again = [Event(0, 10 + i, e.source_offset, e.event_id, e.time_ms) for i, e in enumerate(events)]
    bounds = {"cutoff_ms": 100, "label_cutoff_ms": 100}
    once = join(feature_table(events), label_table(labels), **bounds)
    twice = join(feature_table(events + again[3:]), label_table(labels), **bounds)
    assert digest(once) == digest(twice)
    assert twice.counts["repeated_feature_records"] == 7


@pytest.mark.parametrize("change", ["target", "value", "id", "time"])
def test_digest_sees_every_column(change: str) -> None:
    bounds = {"cutoff_ms": 100, "label_cutoff_ms": 100}
    events, labels = example(4)
    before = digest(join(feature_table(events), label_table(labels), **bounds))
    if change == "target":
        labels[2] = Label(0, 2, True, "e2", 3, 1.0)
    elif change == "value":
        events[2] = Event(0, 2, 9, "e2", 2)
    elif change == "id":
        events[2], labels[2] = Event(0, 2, 2, "ex", 2), Label(0, 2, True, "ex", 3, 0.0)
    else:
        events[2] = Event(0, 2, 2, "e2", 1)
    after = digest(join(feature_table(events), label_table(labels), **bounds))
    assert before != after


def test_digest_takes_every_nan_as_the_same() -> None:
    events, labels = example(2)
    bounds = {"cutoff_ms": 100, "label_cutoff_ms": 100}
    digests = set()
    for bits in (0x7FF8000000000000, 0xFFF8000000000001):
        table = feature_table(events)
        nan = np.full(2, bits, dtype=np.uint64).view(np.float64)
        table = table.set_column(6, "f.value", pa.array(nan))
        digests.add(digest(join(table, label_table(labels), **bounds)))
    assert len(digests) == 1


def test_split_is_by_time_and_keeps_equal_times_together() -> None:
    events = [Event(0, i, i, f"e{i}", t) for i, t in enumerate([0, 1, 2, 3, 5, 5, 5, 5, 5, 9])]
    labels = [Label(0, i, True, f"e{i}", 9, float(i % 2)) for i in range(10)]
    joined = join(feature_table(events), label_table(labels), cutoff_ms=99, label_cutoff_ms=99)
    assert split(joined, 0.3) == 4
    assert split(joined, 0.1) == 9
    prepared = prepare(joined, 0.3)
    assert prepared.train.event_times_ms.max() < prepared.validation.event_times_ms.min()
    assert prepared.numeric_names == ["value"]
    assert prepared.train.categories == [["e"] * 4]
    assert prepared.validation.numeric[:, 0].tolist() == [4, 5, 6, 7, 8, 9]


@pytest.mark.parametrize("n", [0, 3])
def test_one_event_time_cannot_be_split(n: int) -> None:
    events = [Event(0, i, i, f"e{i}", 5) for i in range(n)]
    labels = [Label(0, i, True, f"e{i}", 9, float(i % 2)) for i in range(n)]
    joined = join(feature_table(events), label_table(labels), cutoff_ms=99, label_cutoff_ms=99)
    with pytest.raises(TrainingError, match="split by time"):
        split(joined, 0.2)
