"""The processor's rules, with the producer's acknowledgements in the test's hand."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from features.engine.engine import FeatureEngine, Processed
from features.processing.processor import FeatureProcessor, SnapshotPolicy
from features.processing.stages import Stage
from features.records import FeatureCodec, FeatureRows
from streams.batch import LogBatch
from streams.batch_transport import Bounds, Fetched
from streams.errors import BrokerError, DefinitionError, StateError
from streams.snapshots import Snapshot, SnapshotStore
from streams.topics import Topics
from tests.features.payments import DEFINITION, PAYMENTS, payments

CODEC = FeatureCodec(DEFINITION, PAYMENTS)
STAGE = Stage(Topics("payments"), DEFINITION, PAYMENTS)
VALUES = [value for _, value in payments(0, 300, bad=False)]


class FakeEmitter:
    """Keeps what it is given; the test acknowledges."""

    def __init__(self) -> None:
        self.emitted: list[bytes] = []
        self.receipts: list[asyncio.Future[None]] = []

    def emit(
        self, processed: Processed, _: Mapping[int, bytes], __: LogBatch
    ) -> asyncio.Future[None]:
        self.emitted += CODEC.encode(processed.rows)
        self.receipts.append(asyncio.get_running_loop().create_future())
        return self.receipts[-1]

    async def acknowledge(self, *numbers: int) -> None:
        for number in numbers:
            self.receipts[number].set_result(None)
        await asyncio.sleep(0)


class FakeOnline:
    """Stores at once, or says that it can't."""

    def __init__(self, ready: bool) -> None:
        self.ready, self.offered, self.forgotten = ready, 0, 0

    def offer(self, rows: FeatureRows) -> None:
        self.offered += len(rows)

    async def flushed(self) -> bool:
        return self.ready

    def forget(self) -> None:
        self.forgotten += 1


class Bench:
    """A processor with all its surroundings."""

    def __init__(self, folder: Path, online: FakeOnline | None = None) -> None:
        self.emitter = FakeEmitter()
        self.store = SnapshotStore(folder, "log@1")
        self.done: list[tuple[int, int]] = []
        self.failures: list[BaseException] = []
        self.processor = FeatureProcessor(
            STAGE, self.emitter, self.store,
            lambda partition, offset: self.done.append((partition, offset)),
            self.failures.append, online, SnapshotPolicy(3600, 100),
        )  # fmt: skip

    async def open(self, committed: int | None = None, end: int = 300) -> int:
        return (await self.processor.assigned({0: Bounds(committed, 0, end)}))[0]

    async def feed(self, first: int, end: int) -> None:
        await self.processor.handle(fetched(first, end))


def fetched(first: int, end: int) -> Fetched:
    return Fetched(
        first,
        LogBatch(
            "payments.events.v1", 0, np.arange(first, end), np.arange(first, end) + 1,
            [b"k"] * (end - first), list(VALUES[first:end]), end,
        ),
        {},
    )  # fmt: skip


def expected(first: int, end: int) -> list[bytes]:
    rows = FeatureEngine(DEFINITION, PAYMENTS).process(fetched(0, end).batch).rows
    return CODEC.encode(rows)[first:]


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 30))


def test_an_offset_is_done_when_all_before_it_is_acknowledged(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = Bench(tmp_path)
        assert await bench.open() == 0
        for first in (0, 10, 20):
            await bench.feed(first, first + 10)
        await bench.emitter.acknowledge(1, 2)
        assert bench.done == []
        await bench.emitter.acknowledge(0)
        assert bench.done == [(0, 30)]
        assert bench.emitter.emitted == expected(0, 30)

    run(scenario)


def test_rows_below_the_committed_offset_only_move_the_state(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = Bench(tmp_path)
        assert await bench.open(committed=25) == 0
        await bench.feed(0, 20)
        await bench.feed(20, 40)
        await bench.emitter.acknowledge(0, 1)
        assert bench.emitter.emitted == expected(25, 40)
        assert bench.done == [(0, 40)]

    run(scenario)


def test_a_stretch_fetched_again_is_cut_and_a_gap_stops_the_worker(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = Bench(tmp_path)
        await bench.open()
        await bench.feed(0, 20)
        await bench.feed(10, 30)
        await bench.feed(0, 30)
        assert bench.emitter.emitted == expected(0, 30)
        await bench.feed(31, 40)
        assert isinstance(bench.failures[0], StateError)
        assert bench.emitter.emitted == expected(0, 30)

    run(scenario)


def test_a_record_that_the_broker_refuses_stops_the_worker_before_its_offset(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        bench = Bench(tmp_path)
        await bench.open()
        await bench.feed(0, 10)
        await bench.feed(10, 20)
        bench.emitter.receipts[0].set_exception(BrokerError("refused"))
        bench.emitter.receipts[1].set_result(None)
        await asyncio.sleep(0)
        assert {str(failure) for failure in bench.failures} == {"refused"}
        assert bench.done == []
        with pytest.raises(BrokerError):
            await bench.processor.close()
        assert bench.store.load(0) is None

    run(scenario)


def test_a_snapshot_waits_for_the_acknowledgement_of_what_it_covers(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = Bench(tmp_path)
        await bench.open()
        await bench.feed(0, 150)
        await asyncio.sleep(0.05)
        assert bench.store.load(0) is None
        await bench.feed(150, 160)
        await bench.emitter.acknowledge(0)
        while (snapshot := bench.store.load(0)) is None:
            await asyncio.sleep(0.01)
        # The state of the moment the copy was made, though more has been processed since.
        again = Bench(tmp_path)
        assert await again.open(committed=snapshot.next_offset) == snapshot.next_offset
        await again.feed(snapshot.next_offset, 300)
        assert again.emitter.emitted == expected(snapshot.next_offset, 300)

    run(scenario)


def test_revoked_partitions_are_saved_and_go_on_elsewhere(tmp_path: Path) -> None:
    async def scenario() -> None:
        online = FakeOnline(ready=True)
        bench = Bench(tmp_path, online)
        await bench.open()
        await bench.feed(0, 50)
        letting_go = asyncio.create_task(bench.processor.revoked({0}))
        await asyncio.sleep(0.01)
        assert not letting_go.done()
        await bench.emitter.acknowledge(0)
        await letting_go
        assert bench.done == [(0, 50)]
        assert online.forgotten == 1
        await bench.feed(50, 60)  # buffered still, of a partition that is no longer ours
        assert bench.emitter.emitted == expected(0, 50)

        other = Bench(tmp_path)
        assert await other.open(committed=50) == 50
        await other.feed(50, 100)
        assert other.emitter.emitted == expected(50, 100)

    run(scenario)


def test_a_commit_that_came_not_through_is_made_up_for(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = Bench(tmp_path)
        await bench.open()
        await bench.feed(0, 50)
        await bench.emitter.acknowledge(0)
        await bench.processor.close()
        again = Bench(tmp_path)
        assert await again.open(committed=20) == 50
        assert again.done == [(0, 50)]

    run(scenario)


def test_no_snapshot_promises_what_the_online_store_has_not(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = Bench(tmp_path, FakeOnline(ready=False))
        await bench.open()
        await bench.feed(0, 50)
        await bench.emitter.acknowledge(0)
        await bench.processor.close()
        assert bench.store.load(0) is None

    run(scenario)


def test_a_snapshot_outside_the_log_is_not_used(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = Bench(tmp_path)
        await bench.open()
        await bench.feed(0, 50)
        await bench.emitter.acknowledge(0)
        await bench.processor.close()
        assert await Bench(tmp_path).open(end=40) == 0

    run(scenario)


def test_a_changed_definition_under_the_old_version_is_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = Bench(tmp_path)
        bench.store.save(0, Snapshot(10, {}, maker="another definition"))
        with pytest.raises(DefinitionError, match="version 2"):
            await bench.open()
        assert isinstance(bench.failures[0], DefinitionError)

    run(scenario)
