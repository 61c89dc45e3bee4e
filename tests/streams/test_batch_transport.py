"""What an agent gets of a partition: every committed record, in order, once, without a gap."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from uuid import uuid4

import pytest

from streams import batch_transport, bulk_fetching, kafka_client
from streams.batch_transport import Bounds, Fetched, batch_app
from streams.record_parsing import OldFormatError
from tests.streams.log_of_records import append, finish, new_topic, transaction

pytestmark = pytest.mark.broker

TIMEOUT_S = 30.0


class Owner:
    """Reads each partition from ``first``."""

    def __init__(self, first: int = 0) -> None:
        self.first = first
        self.bounds: dict[int, Bounds] = {}

    async def assigned(self, partitions: Mapping[int, Bounds]) -> Mapping[int, int]:
        self.bounds |= partitions
        return dict.fromkeys(partitions, self.first)

    async def revoked(self, partitions: set[int]) -> None:
        pass


def read(
    bootstrap: str, topic: str, ends: Mapping[int, int], folder: Path, first: int = 0,
    meanwhile: Callable[[], Awaitable[None]] | None = None,
) -> list[Fetched]:  # fmt: skip
    """Return what comes until each partition's position has reached its end."""

    async def run() -> list[Fetched]:
        found: list[Fetched] = []
        complete, positions = asyncio.Event(), dict.fromkeys(ends, first)

        async def handle(fetched: Fetched) -> None:
            found.append(fetched)
            positions[fetched.batch.partition] = fetched.batch.next_offset
            if all(positions[partition] >= end for partition, end in ends.items()):
                complete.set()

        group = f"g{uuid4().hex[:8]}"
        app = batch_app(bootstrap, group, topic, Owner(first), handle, folder)
        app.loop = asyncio.get_running_loop()
        await app.start()
        try:
            if meanwhile is not None:
                await meanwhile()
            await asyncio.wait_for(complete.wait(), TIMEOUT_S)
        finally:
            await app.stop()
        return found

    found = asyncio.run(run())
    for partition in ends:
        position = first
        for fetched in found:
            if fetched.batch.partition == partition:
                assert fetched.start_offset == position
                assert len(fetched.batch) <= batch_transport.MAX_RECORDS
                position = fetched.batch.next_offset
    return found


def values_of(found: list[Fetched], partition: int = 0) -> list[bytes | None]:
    return [v for f in found if f.batch.partition == partition for v in f.batch.values]


def numbered(n: int, first: int = 0) -> list[bytes]:
    return [str(i).encode() for i in range(first, first + n)]


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_transport, "MAX_RECORDS", 30)


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_records_come_with_key_time_and_traceparent(
    bootstrap: str, tmp_path: Path, codec: str
) -> None:
    topic = new_topic(bootstrap, partitions=2)
    client = kafka_client.producer(bootstrap, compression_type=codec, linger_ms=20)
    for i, value in enumerate(numbered(200)):
        headers: list[tuple[str, str | bytes | None]] = [("a", b"b")]
        if i % 4 == 0:
            headers.append(("traceparent", b"t%d" % i))
        client.produce(topic, value, None if i % 3 else b"k%d" % i, 1, timestamp=i, headers=headers)
    assert client.flush(30) == 0
    append(bootstrap, topic, numbered(45))
    found = read(bootstrap, topic, {0: 45, 1: 200}, tmp_path)
    assert values_of(found, 0) == numbered(45)
    assert values_of(found, 1) == numbered(200)
    batches = [f.batch for f in found if f.batch.partition == 1]
    assert [at for b in batches for at in b.timestamps_ms.tolist()][1:] == list(range(1, 200))
    keys = [key for batch in batches for key in batch.keys]
    assert keys == [None if i % 3 else b"k%d" % i for i in range(200)]
    traces = {o: t for f in found for o, t in f.traceparents.items()}
    assert traces == {i: b"t%d" % i for i in range(0, 200, 4)}


@pytest.mark.usefixtures("small_batches")
def test_only_what_was_committed_comes_and_markers_move_the_position(
    bootstrap: str, tmp_path: Path
) -> None:
    topic = new_topic(bootstrap)
    finish(bootstrap, topic, transaction(bootstrap, topic, numbered(40)).commit_transaction)
    finish(bootstrap, topic, transaction(bootstrap, topic, numbered(40, 900)).abort_transaction)
    append(bootstrap, topic, numbered(5, 40))
    finish(bootstrap, topic, transaction(bootstrap, topic, numbered(3, 900)).abort_transaction)
    end = 40 + 1 + 40 + 1 + 5 + 3 + 1
    found = read(bootstrap, topic, {0: end}, tmp_path)
    assert values_of(found) == numbered(45)
    assert found[-1].batch.next_offset == end


def test_a_topic_that_grows_is_followed(bootstrap: str, tmp_path: Path) -> None:
    topic = new_topic(bootstrap)
    append(bootstrap, topic, numbered(10))

    async def grow() -> None:
        for i in range(1, 5):
            await asyncio.to_thread(append, bootstrap, topic, numbered(10, 10 * i))

    found = read(bootstrap, topic, {0: 50}, tmp_path, first=7, meanwhile=grow)
    assert values_of(found) == numbered(43, 7)


@pytest.mark.usefixtures("small_batches")
def test_older_message_formats_are_left_to_the_library(
    bootstrap: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OldFormatError

    monkeypatch.setattr(bulk_fetching, "FetchedRecords", refuse)
    topic = new_topic(bootstrap)
    append(bootstrap, topic, numbered(100))
    finish(bootstrap, topic, transaction(bootstrap, topic, numbered(3)).abort_transaction)
    found = read(bootstrap, topic, {0: 104}, tmp_path, first=3)
    assert values_of(found) == numbered(97, 3)
    assert {key for f in found for key in f.batch.keys} == {b"k"}
