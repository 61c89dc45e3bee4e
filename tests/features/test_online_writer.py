"""The newest row of each entity reaches the table, a late one never, whatever is restarted."""

import asyncio
import threading
from collections.abc import Callable, Sequence

import numpy as np

from features.online import OnlineRow
from features.online_writer import OnlineWriter
from features.records import FeatureRows


class FakeTable:
    """A table in memory that may refuse for a while."""

    def __init__(self, refusals: int = 0) -> None:
        self.content: dict[str, tuple[int, float]] = {}
        self.writes: list[int] = []
        self.refusals = refusals

    def rows(self, rows: FeatureRows, indices: Sequence[int]) -> list[OnlineRow]:
        return [
            OnlineRow(rows.entities[i], int(rows.event_times_ms[i]), [float(rows.numeric[i, 0])])
            for i in indices
        ]

    def write(self, rows: Sequence[OnlineRow]) -> None:
        if self.refusals:
            self.refusals -= 1
            raise OSError("locked")
        self.writes.append(len(rows))
        for row in rows:
            assert isinstance(row.values[0], float)
            self.content[row.entity] = (row.event_time_ms, row.values[0])

    def times_ms(self, entities: Sequence[str]) -> dict[str, int]:
        return {e: self.content[e][0] for e in entities if e in self.content}


def rows(*events: tuple[str, int, float]) -> FeatureRows:
    """Feature rows of (entity, event time, value), in log order."""
    n = len(events)
    return FeatureRows(
        partition=0,
        event_ids=[str(i) for i in range(n)],
        entities=[entity for entity, _, _ in events],
        event_times_ms=np.array([at for _, at, _ in events], dtype=np.int64),
        source_offsets=np.arange(n),
        numeric=np.array([[value] for _, _, value in events]),
        categories=[],
        groups=[],
    )


def write(table: FakeTable, *batches: FeatureRows, forget: bool = False) -> list[BaseException]:
    """Run a writer over the batches; return its failures."""
    failures: list[BaseException] = []
    failed = threading.Event()

    def fail(error: BaseException) -> None:
        failures.append(error)
        failed.set()

    async def offer() -> None:
        writer = OnlineWriter(opening(table), fail, interval_s=0.01)
        writer.start()
        for batch in batches:
            writer.offer(batch)
            if forget:
                while not await writer.flushed() and not failed.is_set():
                    await asyncio.sleep(0.005)
                writer.forget()
        while not await writer.flushed() and not failed.is_set():
            await asyncio.sleep(0.005)
        writer.close()

    asyncio.run(offer())
    return failures


def opening(table: FakeTable) -> Callable[[], FakeTable]:
    return lambda: table


def test_of_a_batch_the_newest_by_event_time_counts_and_ties_go_to_the_later_in_the_log() -> None:
    table = FakeTable()
    write(table, rows(("a", 5, 1.0), ("b", 7, 2.0), ("a", 9, 3.0), ("a", 6, 4.0), ("b", 7, 5.0)))
    assert table.content == {"a": (9, 3.0), "b": (7, 5.0)}
    assert sum(table.writes) == 2


def test_a_late_row_never_overwrites_a_newer_one() -> None:
    table = FakeTable()
    write(table, rows(("a", 9, 1.0)), rows(("a", 8, 2.0)), forget=True)
    assert table.content == {"a": (9, 1.0)}


def test_after_a_restart_the_store_itself_is_asked() -> None:
    table = FakeTable()
    table.content["a"] = (9, 1.0)
    write(table, rows(("a", 8, 2.0), ("b", 1, 3.0)))
    assert table.content == {"a": (9, 1.0), "b": (1, 3.0)}


def test_many_entities_are_written_in_pieces() -> None:
    table = FakeTable()
    write(table, rows(*((f"e{i}", i, float(i)) for i in range(1200))))
    assert len(table.content) == 1200
    assert max(table.writes) <= 500


def test_a_locked_store_is_tried_again_and_a_broken_one_is_a_failure() -> None:
    table = FakeTable(refusals=1)
    assert write(table, rows(("a", 1, 1.0))) == []
    assert table.content == {"a": (1, 1.0)}

    def broken() -> FakeTable:
        raise OSError("no such disk")

    failures: list[BaseException] = []
    writer = OnlineWriter(broken, failures.append)
    writer.start()
    writer._thread.join(5)
    assert [str(failure) for failure in failures] == ["no such disk"]
