"""Positions, and sorting out what a read brought; no broker."""

import pytest
from confluent_kafka import Message, TopicPartition

from serving.inference.stretches import Place, Position, Record, sort_out
from streams.errors import StateError


def record(partition: int, offset: int, topic: str = "f") -> Record:
    return Message(
        topic=topic, partition=partition, offset=offset, key=b"k", value=b"v", timestamp=(1, 7)
    )


def committed(offset: int, metadata: str) -> TopicPartition:
    return TopicPartition("f", 0, offset, metadata)


def test_a_position_survives_its_metadata() -> None:
    for position in (Position(5, 17), Position(5), Position(5, 17, 2)):
        assert Position.of(committed(5, position.metadata())) == position


def test_nothing_committed_begins_at_the_beginning_and_a_reset_knows_no_answers() -> None:
    assert Position.of(TopicPartition("f", 0, -1001)) == Position(0)
    assert Position.of(TopicPartition("f", 0, 9)) == Position(9)
    assert Position.of(committed(9, "")) == Position(9)


@pytest.mark.parametrize("metadata", ["17", "source=", "source=x", "offset=3", "source=1 change="])
def test_foreign_metadata_is_refused(metadata: str) -> None:
    with pytest.raises(StateError, match="another program"):
        Position.of(committed(5, metadata))


def of_f(by_partition: dict[int, Position]) -> dict[Place, Position]:
    return {("f", partition): position for partition, position in by_partition.items()}


def offsets(records: list[Record], positions: dict[int, Position]) -> dict[int, list[int]]:
    taken = sort_out(records, {}, of_f(positions))
    return {stretch.log.partition: stretch.log.offsets.tolist() for stretch in taken.stretches}


def test_interleaved_partitions_become_one_stretch_each() -> None:
    records = [record(1, 4), record(0, 9), record(1, 5), record(0, 12)]
    taken = sort_out(records, {}, of_f({0: Position(9), 1: Position(4)}))
    assert taken.reached == {("f", 0): 13, ("f", 1): 6}
    assert [s.log.offsets.tolist() for s in taken.stretches] == [[9, 12], [4, 5]]


def test_what_a_rebalance_left_behind_is_dropped() -> None:
    before, after = [record(0, o) for o in (5, 6, 7)], [record(0, o) for o in (6, 7, 8)]
    assert offsets([*before, *after], {0: Position(6)}) == {0: [6, 7, 8]}
    assert offsets([*before, record(1, 3)], {1: Position(3)}) == {1: [3]}
    assert offsets(before, {0: Position(8)}) == {}


def test_an_end_behind_control_records_is_reached_an_old_one_is_not() -> None:
    positions = of_f({0: Position(5), 1: Position(5)})
    ends = {("f", 0): 8, ("f", 1): 4, ("f", 2): 9}
    assert sort_out([record(0, 5)], ends, positions).reached == {("f", 0): 8}


def test_topics_that_are_read_together_are_told_apart() -> None:
    records = [record(0, 5), record(0, 7, "g"), record(0, 6), record(0, 8, "g")]
    taken = sort_out(records, {}, {("f", 0): Position(5), ("g", 0): Position(8)})
    assert taken.reached == {("f", 0): 7, ("g", 0): 9}
    assert [(s.log.topic, s.log.offsets.tolist()) for s in taken.stretches] == [
        ("f", [5, 6]),
        ("g", [8]),
    ]
