"""The feature worker as a process on a real broker: however it ends, nothing is lost or changed."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from features.records import FeatureCodec
from features.reprocessing.verify import Replay
from streams.kafka_client import consumer, producer
from streams.topics import Topics, dead_letter_topic
from tests.features.payments import (
    DEFINITION,
    PAYMENTS,
    START_MS,
    Progress,
    emitted,
    feature_worker,
    offline,
    payments,
    prepared,
    read_all,
    send,
)

pytestmark = [
    pytest.mark.broker,
    # kafka-python 3 leaves the self-pipe of a closed administration client to the collector
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

QUICK = ("--no-online",)
SNAPSHOTS = ("--no-online", "--snapshot-every", "300")


@pytest.fixture
def topics(bootstrap: str) -> Topics:
    return prepared(bootstrap, f"t{uuid4().hex[:8]}")


@pytest.fixture
def progress(bootstrap: str, topics: Topics) -> Iterator[Progress]:
    reader = Progress(bootstrap, topics)
    yield reader
    reader.close()


def assert_as_offline(bootstrap: str, topics: Topics) -> None:
    """The features topic without repetitions = one run of the engine over the log."""
    values, in_order = emitted(bootstrap, topics)
    wanted, _ = offline(bootstrap, topics)
    assert values == {place: {value} for place, value in wanted.items()}
    assert in_order


def assert_keys_and_times_are_the_events(bootstrap: str, topics: Topics) -> None:
    events = {
        (batch.partition, offset): (key, value)
        for batch in read_all(bootstrap, topics.events)
        for offset, key, value in zip(batch.offsets.tolist(), batch.keys, batch.values, strict=True)
    }
    codec = FeatureCodec(DEFINITION, PAYMENTS)
    for batch in read_all(bootstrap, topics.features):
        rows = codec.decode(batch)
        assert batch.timestamps_ms.tolist() == rows.event_times_ms.tolist()
        for offset, key in zip(rows.source_offsets.tolist(), batch.keys, strict=True):
            assert events[batch.partition, offset][0] == key


def headers_of_last(bootstrap: str, topics: Topics, partition: int) -> dict[str, bytes]:
    from confluent_kafka import TopicPartition

    client = consumer(bootstrap, enable_partition_eof=False)
    end = client.get_watermark_offsets(TopicPartition(topics.features, partition))[1]
    client.assign([TopicPartition(topics.features, partition, end - 1)])
    message = client.poll(10)
    client.close()
    assert message is not None
    return dict(message.headers() or [])  # type: ignore[arg-type]


def test_events_become_features_and_bad_ones_dead_letters(
    bootstrap: str, topics: Topics, progress: Progress, tmp_path: Path
) -> None:
    send(bootstrap, topics, payments(0, 3000))
    with feature_worker(bootstrap, topics.name, tmp_path, *QUICK) as worker:
        progress.wait_drained(worker)
        assert_as_offline(bootstrap, topics)
        wanted, dead = offline(bootstrap, topics)
        assert len(wanted) + dead == 3000
        assert_keys_and_times_are_the_events(bootstrap, topics)
        letters = read_all(bootstrap, dead_letter_topic(topics.events), partitions=1)
        assert sum(map(len, letters)) == dead == 90

        # An event that comes while all is quiet is committed soon, trace and attributes with it.
        trace = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        send(bootstrap, topics, payments(3000, 1), headers=[("traceparent", trace)])
        sent_at = time.monotonic()
        progress.wait_drained(worker)
        assert time.monotonic() - sent_at < 1.0
        places, _ = emitted(bootstrap, topics)
        (place,) = set(places) - set(wanted)
        headers = headers_of_last(bootstrap, topics, place[0])
        assert headers["traceparent"] == trace
        assert headers["ce_id"] == b"p3000"
        assert headers["ce_specversion"] == b"1.0"
        assert int(headers["kappa-featurised-at-ms"]) > START_MS

        worker.send_signal(signal.SIGTERM)
        assert worker.wait(30) == 0
    report = Replay(bootstrap, topics, DEFINITION, PAYMENTS).run()
    assert report.identical
    assert (report.events, report.rows, report.pending) == (3001, 2911, 0)


def test_killed_in_mid_stream_nothing_is_lost_and_no_value_changes(
    bootstrap: str, topics: Topics, progress: Progress, tmp_path: Path
) -> None:
    sent = 0
    for _ in range(2):
        with feature_worker(bootstrap, topics.name, tmp_path, *SNAPSHOTS) as worker:
            for _ in range(8):
                send(bootstrap, topics, payments(sent, 300))
                sent += 300
                progress.wait_committed(sent - 400, worker)
            worker.kill()
    assert progress.lag() > 0 or sent == sum(progress.committed().values())
    assert list((tmp_path / "snapshots").rglob("*.snapshot"))
    with feature_worker(bootstrap, topics.name, tmp_path, *SNAPSHOTS) as worker:
        progress.wait_drained(worker)
    assert_as_offline(bootstrap, topics)


def test_damaged_and_lost_snapshots_cost_only_a_replay(
    bootstrap: str, topics: Topics, progress: Progress, tmp_path: Path
) -> None:
    send(bootstrap, topics, payments(0, 2000))
    with feature_worker(bootstrap, topics.name, tmp_path, *SNAPSHOTS) as worker:
        progress.wait_drained(worker)
        worker.terminate()
        assert worker.wait(30) == 0
    damaged, lost, *_ = sorted((tmp_path / "snapshots").rglob("*.snapshot"))
    content = bytearray(damaged.read_bytes())
    content[-200] ^= 0xFF
    damaged.write_bytes(content)
    lost.unlink()
    send(bootstrap, topics, payments(2000, 1000))
    with feature_worker(bootstrap, topics.name, tmp_path, *SNAPSHOTS) as worker:
        progress.wait_drained(worker)
    assert_as_offline(bootstrap, topics)
    # What was emitted before is not emitted again: the replay only rebuilt the state.
    assert Replay(bootstrap, topics, DEFINITION, PAYMENTS).run().repeated == 0
    assert "snapshot not used" in (tmp_path / "worker.log").read_text()


def test_partitions_move_between_workers(
    bootstrap: str, topics: Topics, progress: Progress, tmp_path: Path
) -> None:
    send(bootstrap, topics, payments(0, 1000))
    with feature_worker(bootstrap, topics.name, tmp_path, *SNAPSHOTS) as first:
        progress.wait_drained(first)
        with feature_worker(bootstrap, topics.name, tmp_path / "other", *SNAPSHOTS) as second:
            sent, log = 1000, tmp_path / "other" / "worker.log"
            while "partition opened" not in log.read_text():  # the rebalance, under way
                send(bootstrap, topics, payments(sent, 50))
                sent += 50
                assert second.poll() is None
                assert first.poll() is None
            send(bootstrap, topics, payments(sent, 1000))
            progress.wait_drained(first)
            second.terminate()
            assert second.wait(30) == 0
            send(bootstrap, topics, payments(sent + 1000, 500))
            progress.wait_drained(first)
    assert_as_offline(bootstrap, topics)


def test_transactional_events_drain_to_the_end_and_aborted_ones_never_count(
    bootstrap: str, topics: Topics, progress: Progress, tmp_path: Path
) -> None:
    client = producer(bootstrap, transactional_id=uuid4().hex)
    client.init_transactions()
    with feature_worker(bootstrap, topics.name, tmp_path, *QUICK) as worker:
        for first, commit in ((0, True), (100, False), (200, True), (300, False)):
            client.begin_transaction()
            for key, value in payments(first, 100):
                client.produce(topics.events, value, key)
            if commit:
                client.commit_transaction()
            else:
                client.flush()
                client.abort_transaction()
        progress.wait_drained(worker)
    assert_as_offline(bootstrap, topics)
    assert len(emitted(bootstrap, topics)[0]) == 194
