"""The point-in-time join against an obvious oracle, one record after another."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.errors import TrainingError
from training.dataset.build_examples import Bounds, build_examples
from training.dataset.example_set import ExampleSet
from training.dataset.prepared import prepare, split
from training.dataset.row_digest import RowDigest


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
) -> list[tuple[Event, float]]:
    """What the join must return, as (event, target) in order."""
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
    return [(e, answers[e.event_id]) for e in rows]


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


def built(
    folder: Path,
    events: list[Event],
    labels: list[Label],
    *,
    since_ms: int | None = None,
    cutoff_ms: int = 100,
    label_cutoff_ms: int = 100,
    pieces: int = 1,
    with_log: bool = False,
) -> ExampleSet:
    """Join what a log of these records gives, cut into so many pieces."""
    features = feature_table(sorted(events, key=lambda e: (e.partition, e.offset)))
    known = label_table(sorted(labels, key=lambda x: (x.partition, x.offset)))
    return build_examples(
        folder,
        features.schema,
        cut(known, pieces),
        cut(features, pieces),
        Bounds(since_ms, cutoff_ms, label_cutoff_ms),
        with_log=with_log,
    )


def cut(table: pa.Table, pieces: int) -> list[pa.Table]:
    size = max(1, -(-table.num_rows // pieces))
    return [table.slice(begin, size) for begin in range(0, table.num_rows, size)]


def rows_of(examples: ExampleSet) -> list[tuple[float, float]]:
    """The value of each example, which is its source offset, and its target."""
    return list(zip(examples.numeric[:, 0].tolist(), examples.targets.tolist(), strict=True))


@settings(deadline=None, max_examples=60)
@given(logs(), times, times, times, st.integers(1, 5))
def test_equals_the_oracle(
    log: tuple[list[Event], list[Label]], since: int, cutoff: int, label_cutoff: int, pieces: int
) -> None:
    events, labels = log
    with tempfile.TemporaryDirectory() as folder:
        examples = built(
            Path(folder) / "set", events, labels,
            since_ms=since, cutoff_ms=cutoff, label_cutoff_ms=label_cutoff, pieces=pieces,
        )  # fmt: skip
        expected = oracle(events, labels, since, cutoff, label_cutoff)
        assert rows_of(examples) == [(float(e.source_offset), t) for e, t in expected]
        assert list(examples.categories[0]) == [e.event_id[:1] for e, _ in expected]
        assert examples.event_times_ms.tolist() == [e.time_ms for e, _ in expected]
        assert examples.places.tolist() == [[e.partition, e.source_offset] for e, _ in expected]
        assert examples.counts["examples"] == len(expected)
        assert examples.counts["invalid_labels"] == sum(not x.valid for x in labels)
        assert examples.counts["feature_records"] == len(events)


def example(n: int) -> tuple[list[Event], list[Label]]:
    events = [Event(0, i, i, f"e{i}", i) for i in range(n)]
    labels = [Label(0, i, True, f"e{i}", i + 1, float(i % 2)) for i in range(n)]
    return events, labels


@pytest.mark.parametrize("with_log", [False, True])
def test_pieces_change_nothing(tmp_path: Path, with_log: bool) -> None:
    events, labels = example(40)
    events += [Event(1, i, i, f"x{i}", 3 * i) for i in range(20)]
    labels += [Label(1, i, True, f"x{i}", 60, float(i % 2)) for i in range(20)]
    sets = [
        built(tmp_path / str(pieces), events, labels, pieces=pieces, with_log=with_log)
        for pieces in (1, 2, 7)
    ]
    assert len({examples.data_sha256 for examples in sets}) == 1
    contents = [
        {file.name: file.read_bytes() for file in (tmp_path / str(pieces)).iterdir()}
        for pieces in (1, 2, 7)
    ]
    assert contents[0] == contents[1] == contents[2]


@pytest.mark.parametrize("pieces", [1, 3])
def test_the_first_record_and_the_first_label_of_an_event_count(
    tmp_path: Path, pieces: int
) -> None:
    events = [Event(0, 0, 5, "a", 1), Event(1, 0, 6, "a", 2), Event(1, 1, 7, "b", 3)]
    labels = [
        Label(0, 0, True, "a", 3, 1.0), Label(1, 0, True, "a", 3, 0.0),
        Label(1, 1, True, "b", 3, 0.0), Label(1, 2, True, "b", 3, 1.0),
    ]  # fmt: skip
    examples = built(tmp_path / "set", events, labels, pieces=pieces)
    assert rows_of(examples) == [(5.0, 1.0), (7.0, 0.0)]
    assert examples.counts["repeated_labels"] == 2
    assert examples.counts["repeated_feature_records"] == 1
    assert examples.counts["events_in_window"] == 2


def test_label_known_after_the_cutoff_is_not_used(tmp_path: Path) -> None:
    events, labels = example(10)
    examples = built(tmp_path / "set", events, labels, label_cutoff_ms=5)
    assert examples.numeric[:, 0].tolist() == [0, 1, 2, 3, 4]
    assert examples.counts["labels_after_cutoff"] == 5


@pytest.mark.parametrize("with_log", [False, True])
def test_records_repeated_after_a_crash_change_no_digest(tmp_path: Path, with_log: bool) -> None:
    events, labels = example(10)
    again = [Event(0, 10 + i, e.source_offset, e.event_id, e.time_ms) for i, e in enumerate(events)]
    once = built(tmp_path / "once", events, labels, with_log=with_log)
    twice = built(tmp_path / "twice", events + again[3:], labels, with_log=with_log, pieces=3)
    assert once.data_sha256 == twice.data_sha256
    assert twice.counts["repeated_feature_records"] == 7
    assert twice.counts["events_in_window"] == 10


def test_the_log_holds_events_without_labels_too(tmp_path: Path) -> None:
    events, labels = example(10)
    examples = built(tmp_path / "set", events, labels[5:8], with_log=True, pieces=3)
    assert examples.log is not None
    assert examples.rows is not None
    assert len(examples.log) == 10
    assert examples.rows.tolist() == [5, 6, 7]
    np.testing.assert_array_equal(examples.log.numeric[examples.rows], examples.numeric)
    assert examples.log.places[:, 1].tolist() == list(range(10))
    assert set(examples.log.entities.tolist()) == {0}
    without = built(tmp_path / "other", events, labels[5:8])
    assert without.log is None
    assert rows_of(without) == rows_of(examples)


@pytest.mark.parametrize("change", ["target", "value", "id", "time"])
def test_digest_sees_every_column(tmp_path: Path, change: str) -> None:
    events, labels = example(4)
    before = built(tmp_path / "before", events, labels)
    if change == "target":
        labels[3] = Label(0, 3, True, "e3", 4, 0.0)
    elif change == "value":
        events[3] = Event(0, 3, 9, "e3", 3)
    elif change == "id":
        events[3], labels[3] = Event(0, 3, 3, "ex", 3), Label(0, 3, True, "ex", 4, 1.0)
    else:
        events[3] = Event(0, 3, 3, "e3", 1)
    after = built(tmp_path / "after", events, labels)
    assert len(before) == len(after)
    assert before.data_sha256 != after.data_sha256


def test_digest_takes_every_nan_as_the_same() -> None:
    digests = set()
    for bits in (0x7FF8000000000000, 0xFFF8000000000001):
        digest = RowDigest()
        digest.add({"f.value": np.full(2, bits, np.uint64).view(np.float64)})
        digests.add(digest.hexdigest())
    assert len(digests) == 1


def test_split_is_by_time_and_keeps_equal_times_together(tmp_path: Path) -> None:
    events = [Event(0, i, i, f"e{i}", t) for i, t in enumerate([0, 1, 2, 3, 5, 5, 5, 5, 5, 9])]
    labels = [Label(0, i, True, f"e{i}", 9, float(i % 2)) for i in range(10)]
    examples = built(tmp_path / "set", events, labels)
    assert split(examples.event_times_ms, 0.3) == 4
    assert split(examples.event_times_ms, 0.1) == 9
    prepared = prepare(examples, 0.3)
    assert prepared.train.event_times_ms.max() < prepared.validation.event_times_ms.min()
    assert prepared.numeric_names == ["value"]
    assert [list(column) for column in prepared.train.categories] == [["e"] * 4]
    assert prepared.validation.numeric[:, 0].tolist() == [4, 5, 6, 7, 8, 9]


@pytest.mark.parametrize("n", [0, 3])
def test_one_event_time_cannot_be_split(n: int) -> None:
    with pytest.raises(TrainingError, match="split by time"):
        split(np.full(n, 5), 0.2)
