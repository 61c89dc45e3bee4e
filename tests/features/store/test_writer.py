"""The newest row of each entity reaches the table, by its own comparison never a late one."""

import asyncio
import threading
from collections.abc import Callable

import numpy as np

from features.records import FeatureRows
from features.store.table import OnlineColumns
from features.store.writer import CHUNK, OnlineWriter, newest_rows


class FakeTable:
    """A table in memory that may refuse for a while."""

    def __init__(self, refusals: int = 0) -> None:
        self.content: dict[str, tuple[int, float, str]] = {}
        self.writes: list[int] = []
        self.refusals = refusals

    def write(self, columns: OnlineColumns) -> int:
        if self.refusals:
            self.refusals -= 1
            raise OSError("locked")
        self.writes.append(len(columns))
        taken = 0
        rows = zip(
            columns.entities,
            columns.event_times_ms.tolist(),
            columns.numeric[:, 0].tolist(),
            columns.categories[0],
            strict=True,
        )
        for entity, at, value, text in rows:
            if entity not in self.content or at >= self.content[entity][0]:
                self.content[entity] = (at, value, text)
                taken += 1
        return taken


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
        categories=[[f"text {value}" for _, _, value in events]],
        groups=[],
    )


def write(
    table: FakeTable, *batches: FeatureRows, one_by_one: bool = False
) -> tuple[OnlineWriter, list[BaseException]]:
    """Run a writer over the batches; return it and its failures."""
    failures: list[BaseException] = []
    failed = threading.Event()

    def fail(error: BaseException) -> None:
        failures.append(error)
        failed.set()

    async def offer() -> OnlineWriter:
        writer = OnlineWriter(opening(table), fail, interval_s=0.01)
        writer.start()
        for batch in batches:
            writer.offer(batch)
            while one_by_one and not await writer.flushed() and not failed.is_set():
                await asyncio.sleep(0.005)
        while not await writer.flushed() and not failed.is_set():
            await asyncio.sleep(0.005)
        writer.close()
        return writer

    return asyncio.run(offer()), failures


def opening(table: FakeTable) -> Callable[[], FakeTable]:
    return lambda: table


def test_of_a_batch_the_newest_by_event_time_counts_and_ties_go_to_the_later_in_the_log() -> None:
    table = FakeTable()
    write(table, rows(("a", 5, 1.0), ("b", 7, 2.0), ("a", 9, 3.0), ("a", 6, 4.0), ("b", 7, 5.0)))
    assert table.content == {"a": (9, 3.0, "text 3.0"), "b": (7, 5.0, "text 5.0")}
    assert sum(table.writes) == 2


def test_batches_of_one_interval_are_merged_whatever_their_order() -> None:
    made = newest_rows(
        [
            rows(("a", 5, 1.0), ("b", 7, 2.0)),
            rows(("a", 4, 3.0), ("c", 1, 4.0)),
            rows(("b", 7, 5.0)),
        ]
    )
    assert dict(zip(made.entities, made.numeric[:, 0].tolist(), strict=True)) == {
        "a": 1.0,
        "b": 5.0,
        "c": 4.0,
    }
    assert sorted(made.categories[0]) == ["text 1.0", "text 4.0", "text 5.0"]
    assert made.event_times_ms.tolist() == [{"a": 5, "b": 7, "c": 1}[e] for e in made.entities]


def test_a_late_row_is_left_to_the_table_which_has_a_newer_one() -> None:
    table = FakeTable()
    table.content["b"] = (9, 1.0, "of an earlier run")
    batches = rows(("a", 9, 1.0)), rows(("a", 8, 2.0), ("b", 8, 2.0))
    writer, failures = write(table, *batches, one_by_one=True)
    assert table.content == {"a": (9, 1.0, "text 1.0"), "b": (9, 1.0, "of an earlier run")}
    assert (writer.rows_written, writer.rows_late, failures) == (1, 2, [])


def test_many_entities_are_written_in_pieces() -> None:
    table = FakeTable()
    n = 2 * CHUNK + 1
    write(table, rows(*((f"e{i}", i, float(i)) for i in range(n))))
    assert len(table.content) == n
    assert max(table.writes) <= CHUNK


def test_a_locked_store_is_tried_again_and_a_broken_one_is_a_failure() -> None:
    table = FakeTable(refusals=1)
    _, failures = write(table, rows(("a", 1, 1.0)))
    assert failures == []
    assert table.content == {"a": (1, 1.0, "text 1.0")}

    def broken() -> FakeTable:
        raise OSError("no such disk")

    writer = OnlineWriter(broken, failures.append)
    writer.start()
    writer._thread.join(5)
    assert [str(failure) for failure in failures] == ["no such disk"]
