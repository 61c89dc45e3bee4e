"""What is passed on, and when: rounds in the order of time over what has been fetched."""

import asyncio
from collections.abc import Mapping

import numpy as np
import pytest
from numpy.typing import NDArray

from features.processing.aligned import AlignedReading
from streams.batch import LogBatch
from streams.batch_transport import Bounds, Fetched


class Surroundings:
    """Processor, emitter and broker; remembers what went through in which round."""

    def __init__(self, ends: dict[int, int]) -> None:
        self.ends, self.round = ends, list[tuple[int, int]]()
        self.rounds: list[list[tuple[int, int]]] = []
        self.positions = dict.fromkeys(ends, 0)
        self.times: list[int] = []

    async def assigned(self, partitions: Mapping[int, Bounds]) -> Mapping[int, int]:
        return {number: self.positions[number] for number in partitions}

    async def revoked(self, partitions: set[int]) -> None:
        pass

    async def close(self) -> None:
        pass

    async def handle(self, fetched: Fetched) -> None:
        batch = fetched.batch
        assert fetched.start_offset == self.positions[batch.partition]
        self.positions[batch.partition] = batch.next_offset
        self.round += [(batch.partition, offset) for offset in batch.offsets.tolist()]

    def send_round(
        self, times_ms: Mapping[int, tuple[NDArray[np.int64], NDArray[np.int64]]]
    ) -> None:
        assert sum(len(offsets) for offsets, _ in times_ms.values()) == len(self.round)
        self.times += sorted(int(at) for _, times in times_ms.values() for at in times)
        if self.round:
            self.rounds.append(self.round)
        self.round = []

    async def ask_ends(self) -> dict[int, int]:
        return self.ends


def fetched(partition: int, first: int, *times_ms: int) -> Fetched:
    n = len(times_ms)
    offsets = np.arange(first, first + n)
    batch = LogBatch("t", partition, offsets, np.array(times_ms), [None] * n, [b""] * n, first + n)
    return Fetched(first, batch, {})


def run(ends: dict[int, int], *stretches: Fetched) -> Surroundings:
    async def scenario() -> Surroundings:
        around = Surroundings(ends)
        reading = AlignedReading(around, around, around.ask_ends)
        await reading.assigned({p: Bounds(0, 0, end) for p, end in ends.items()})
        for stretch in stretches:
            await reading.handle(stretch)
        return around

    return asyncio.run(scenario())


def test_nobody_is_waited_for_at_the_ends_of_the_logs() -> None:
    around = run({0: 2, 1: 0}, fetched(0, 0, 10, 900))
    assert around.rounds == [[(0, 0), (0, 1)]]


def test_a_partition_with_a_backlog_is_waited_for() -> None:
    ends = {0: 3, 1: 4}
    assert run(ends, fetched(0, 0, 10, 20, 30)).rounds == []
    around = run(ends, fetched(0, 0, 10, 20, 30), fetched(1, 0, 5, 21))
    assert around.rounds == [[(0, 0), (0, 1), (1, 0), (1, 1)]]
    around = run(ends, fetched(0, 0, 10, 20, 30), fetched(1, 0, 5, 21), fetched(1, 2, 29, 31))
    assert around.rounds[1:] == [[(0, 2), (1, 2), (1, 3)]]
    assert around.times == [5, 10, 20, 21, 29, 30, 31]


def test_each_partition_keeps_its_own_order() -> None:
    around = run({0: 3, 1: 2}, fetched(0, 0, 10, 40, 20), fetched(1, 0, 15, 30))
    assert around.times == [10, 15, 30, 40, 40]
    assert around.rounds == [[(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]]


def test_what_was_fetched_before_the_last_assignment_is_left_to_be_fetched_again() -> None:
    around = run({0: 9, 1: 0}, fetched(0, 5, 1, 2), fetched(0, 0, 1, 2))
    assert around.rounds == [[(0, 0), (0, 1)]]


def test_a_record_dated_ahead_holds_up_nothing() -> None:
    ends = {0: 4, 1: 4}
    around = run(ends, fetched(0, 0, 9_000, 20), fetched(1, 0, 10, 30), fetched(0, 2, 25))
    assert around.rounds == [[(1, 0), (1, 1)]]
    assert run(ends, fetched(0, 0, 9_000, 20), fetched(1, 0, 10, 30), fetched(1, 2, 40, 50)).rounds[
        1:
    ] == [[(0, 0), (0, 1), (1, 2), (1, 3)]]


def test_much_goes_in_several_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("features.processing.aligned.MOST_AT_ONCE", 2)
    around = run({0: 6, 1: 0}, fetched(0, 0, 7, 1, 2, 3, 8, 9))
    assert around.rounds == [[(0, 0), (0, 1), (0, 2), (0, 3)], [(0, 4), (0, 5)]]


def test_a_partition_out_of_reach_is_waited_for_only_so_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("features.processing.aligned.MOST_HELD", 3)
    ends = {0: 9, 1: 9}
    assert run(ends, fetched(0, 0, 1, 2, 3)).rounds == []
    assert run(ends, fetched(0, 0, 1, 2, 3, 4)).rounds == [[(0, 0), (0, 1), (0, 2), (0, 3)]]
