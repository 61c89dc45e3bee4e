"""Segments: the same rows from Kafka and from files, and only what is new from Kafka."""

from pathlib import Path

import pyarrow as pa
import pytest
from structlog.testing import capture_logs

from features.definition import Definition, Number
from streams.expressions import Value
from streams.kafka_client import producer
from streams.replay import offset_bounds
from tests.training.pipelines import DEFINITION, EVENTS, LABELS, STEP_MS, Log, new_log, time_ms
from training.dataset.columns import FeatureDecoder, LabelDecoder
from training.dataset.segments import SegmentStore

pytestmark = pytest.mark.broker
SLOT = 64


@pytest.fixture(scope="module")
def filled(bootstrap: str) -> Log:
    """A log with 300 events and labels, 150 a partition; tests only read it."""
    log = new_log(bootstrap)
    log.fill(0, 300)
    return log


def features(log: Log, home: Path) -> SegmentStore:
    decoder = FeatureDecoder(log.topics.features, DEFINITION, EVENTS)
    return SegmentStore(log.bootstrap, home, decoder, SLOT)


def offsets(table: pa.Table, partition: int) -> list[int]:
    rows = zip(table["partition"].to_pylist(), table["offset"].to_pylist(), strict=True)
    return [offset for at, offset in rows if at == partition]


def rows_of(table: pa.Table) -> list[str]:
    """Return the rows as text, so that NaN equals NaN."""
    return [repr(row) for row in table.to_pylist()]


@pytest.mark.parametrize("ranges", [{0: (0, 150), 1: (0, 150)}, {0: (10, 131), 1: (64, 128)},
                                    {1: (70, 71)}, {0: (5, 5)}, {}])  # fmt: skip
def test_rows_are_those_of_the_range(
    filled: Log, tmp_path: Path, ranges: dict[int, tuple[int, int]]
) -> None:
    for _ in range(2):
        table = features(filled, tmp_path).read(ranges)
        for partition in range(2):
            wanted = range(*ranges.get(partition, (0, 0)))
            assert offsets(table, partition) == list(wanted)
        assert table["source_offset"].to_pylist() == [
            2 * o + p for p, (first, end) in sorted(ranges.items()) for o in range(first, end)
        ]


def test_second_reading_does_not_touch_kafka(filled: Log, tmp_path: Path) -> None:
    ranges = {0: (3, 150), 1: (0, 140)}
    first = features(filled, tmp_path)
    from_kafka = first.read(ranges)
    assert first.records_from_kafka == 290  # a slot is read from its aligned beginning
    second = features(filled, tmp_path)
    from_files = second.read(ranges)
    assert second.records_from_kafka == 0
    assert rows_of(from_files) == rows_of(from_kafka)


def test_a_later_range_reads_only_what_is_new(filled: Log, tmp_path: Path) -> None:
    features(filled, tmp_path).read({0: (0, 100)})
    grown = features(filled, tmp_path)
    table = grown.read({0: (0, 150)})
    assert grown.records_from_kafka == 50
    assert offsets(table, 0) == list(range(150))
    shorter = features(filled, tmp_path)
    assert offsets(shorter.read({0: (20, 70)}), 0) == list(range(20, 70))
    assert shorter.records_from_kafka == 0
    assert len(list(tmp_path.rglob("*.arrow"))) == 3


@pytest.mark.parametrize("harm", ["flip", "cut", "empty"])
def test_a_damaged_segment_is_rebuilt(filled: Log, tmp_path: Path, harm: str) -> None:
    good = features(filled, tmp_path).read({0: (0, 150)})
    path = sorted(tmp_path.rglob("*.arrow"))[1]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    damaged = {"flip": bytes(content), "cut": bytes(content[:100]), "empty": b""}[harm]
    path.unlink()
    path.write_bytes(damaged)
    store = features(filled, tmp_path)
    with capture_logs() as logs:
        assert rows_of(store.read({0: (0, 150)})) == rows_of(good)
    assert store.records_from_kafka == SLOT
    assert [log["event"] for log in logs] == ["a damaged segment is rebuilt from the log"]
    assert rows_of(features(filled, tmp_path).read({0: (0, 150)})) == rows_of(good)


def test_another_definition_or_topic_has_other_segments(filled: Log, tmp_path: Path) -> None:
    features(filled, tmp_path).read({0: (0, 100)})
    other = Definition(1, {**DEFINITION.features, "kind": Number(Value("level"))})
    decoder = FeatureDecoder(filled.topics.features, other, EVENTS)
    assert decoder.hash != DEFINITION.hash(EVENTS)
    store = SegmentStore(filled.bootstrap, tmp_path, decoder, SLOT)
    assert not list(store._folder.rglob("*"))


def test_an_unwritable_folder_costs_only_the_cache(filled: Log, tmp_path: Path) -> None:
    (tmp_path / "segments").write_text("a file where the folder should be")
    with capture_logs() as logs:
        table = features(filled, tmp_path).read({0: (0, 150), 1: (0, 10)})
    assert table.num_rows == 160
    assert "can't be cached" in logs[0]["event"]


def test_bad_labels_are_rows_that_are_not_valid(bootstrap: str, tmp_path: Path) -> None:
    log = new_log(bootstrap)
    log.fill(0, 4)
    writer = producer(bootstrap)
    for value in (b"{", b'{"id": 1}', b"\xff", b'"text"'):
        log.append_label(writer, 0, value, 9_000)
    nan = b'{"id":"e9","device":"d","at_ms":9000,"result":null}'
    log.append_label(writer, 0, nan, 9_000)
    writer.produce(log.topics.labels, None, b"k", 0, timestamp=9_000)
    writer.flush(30)
    store = SegmentStore(bootstrap, tmp_path, LabelDecoder(log.topics.labels, LABELS), SLOT)
    table = store.read(offset_bounds(bootstrap, log.topics.labels, 2))
    assert table["valid"].to_pylist() == [True, True, *[False] * 6, True, True]
    valid = table.filter(table["valid"])
    assert valid["event_id"].to_pylist() == ["e0", "e2", "e1", "e3"]
    assert valid["target"].to_pylist() == [1.0, 0.0, 0.0, 0.0]
    assert valid["event_time_ms"].to_pylist() == [time_ms(i) + STEP_MS // 2 for i in (0, 2, 1, 3)]
