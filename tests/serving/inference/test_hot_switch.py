"""While a steady stream is answered by two workers, who answers changes a dozen times, and each
answer is by the version that the log says: of the routing announced last at or before its offset.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import msgspec
import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from benchmarks.breaking.stream import PARTITIONS, FeatureLog, registered, score_of
from serving.auditing.deliveries import check, read
from streams.assignment import arms_of, versions_of
from streams.changes import Changes
from streams.control import ControlFollower, ControlWriter, decode_model_events
from streams.positions import PositionReader
from streams.replay import offset_bounds, read_ranges
from streams.topics import Topics, ensure_topics
from streams.wire import Activated, ModelEvent, Prediction, Routing, StageChanged

pytestmark = [pytest.mark.broker, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[3]
MAX_BATCH = 200
EVERY_S = 0.02
RELEASED = 10
"""Records of each partition every so often: 2,000 per second in all."""
CHANGES = (
    StageChanged(1, "live", "the first"),
    StageChanged(2, "canary", "a tenth", share=0.1, salt="one"),
    StageChanged(2, "canary", "half", share=0.5, salt="one"),
    StageChanged(2, "live", "it is better"),
    StageChanged(2, "rolled_back", "it is worse after all", instead=1),
    StageChanged(3, "canary", "a quarter", share=0.25, salt="two"),
    StageChanged(3, "rolled_back", "worse"),
    StageChanged(3, "live", "all at once"),
    StageChanged(4, "canary", "nearly all", share=0.9, salt="three"),
    StageChanged(4, "canary", "less", share=0.3, salt="three"),
    StageChanged(4, "live", "better"),
    StageChanged(2, "live", "back again"),
    StageChanged(2, "rolled_back", "to the prior", instead=0),
    StageChanged(1, "live", "the last"),
)


@pytest.fixture
def topics(bootstrap: str) -> Topics:
    topics = Topics(f"t{uuid4().hex[:8]}")
    ensure_topics(bootstrap, topics.specs(PARTITIONS))
    writer = ControlWriter(bootstrap)
    for version in (1, 2, 3, 4):
        writer.append_model_event(topics.models, registered(version))
    return topics


def test_every_answer_under_load_is_by_the_version_that_the_log_says(
    bootstrap: str, topics: Topics, tmp_path: Path
) -> None:
    log = FeatureLog(bootstrap, topics)
    changes = Changes(bootstrap, topics.models)
    # One of the workers is killed in the middle, in a transaction, and is started again.
    with working(bootstrap, topics, tmp_path, "w0", ""), streaming(log) as stop:
        with working(bootstrap, topics, tmp_path, "w1", "die@before-commit:20") as killed:
            for change in CHANGES[:7]:
                make(bootstrap, topics, changes, log, change)
            assert killed.wait(60) == -signal.SIGKILL
        with working(bootstrap, topics, tmp_path, "w1", ""):
            for change in CHANGES[7:]:
                make(bootstrap, topics, changes, log, change)
            stop()
            wait_answered(bootstrap, topics, log.ends)
    changes.close()
    seen = read(bootstrap, topics.predictions, PARTITIONS)
    found = check(seen, {p: (0, end) for p, end in log.ends.items()})
    assert found.exactly_once, found
    by_version = check_versions(bootstrap, topics)
    assert set(by_version) == {0, 1, 2, 3, 4}
    assert sum(by_version.values()) == found.events


@contextmanager
def working(
    bootstrap: str, topics: Topics, folder: Path, worker: str, faults: str
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a worker in a process of its own; ends it, and fails where that does not end well."""
    command = [
        sys.executable, "-m", "benchmarks.breaking.worker", bootstrap, topics.name, worker,
        str(MAX_BATCH), "yes", faults, str(folder / "journal"), "none",
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    before = members(bootstrap, topics)
    process = subprocess.Popen(command, cwd=folder, env=environment)
    try:
        deadline = time.monotonic() + 90
        while not members(bootstrap, topics) - before:
            assert time.monotonic() < deadline, f"{worker} gets no partitions"
            time.sleep(0.1)
        yield process
        process.terminate()
        assert process.wait(30) == (-signal.SIGKILL if faults else 0)
    finally:
        process.kill()
        process.wait()


def members(bootstrap: str, topics: Topics) -> set[str]:
    """Return the ids of the group's members that have partitions."""
    group, admin = topics.group("inference"), AdminClient({"bootstrap.servers": bootstrap})
    described = admin.describe_consumer_groups([group])
    try:
        found = described[group].result(60).members
    except KafkaException:  # nobody was a member yet
        return set()
    return {m.member_id for m in found if m.assignment.topic_partitions}


@contextmanager
def streaming(log: FeatureLog) -> Iterator[Callable[[], None]]:
    """Emit features all the time; yields what ends it once the broker has all."""
    ended = threading.Event()

    def emit() -> None:
        while not ended.wait(EVERY_S):
            log.release({p: end + RELEASED for p, end in log.ends.items()})
            log.on_its_way()
        deadline = time.monotonic() + 30
        while log.on_its_way() and time.monotonic() < deadline:
            time.sleep(0.01)

    thread = threading.Thread(target=emit)
    thread.start()

    def stop() -> None:
        ended.set()
        thread.join()
        assert not log.on_its_way()

    try:
        yield stop
    finally:
        stop()


def make(
    bootstrap: str, topics: Topics, changes: Changes, log: FeatureLog, change: StageChanged
) -> None:
    """Change who answers; wait until it is in force and what was emitted by then is answered."""
    assert changes.decide(lambda _: change) is not None
    deadline = time.monotonic() + 60
    while True:
        rollout = changes.poll(0.05)
        if all(rollout.in_force.get((1, p)) == rollout.routing(1) for p in range(PARTITIONS)):
            break
        assert time.monotonic() < deadline, f"{change} is not in force: {rollout.in_force}"
    wait_answered(bootstrap, topics, dict(log.ends))


def wait_answered(bootstrap: str, topics: Topics, ends: dict[int, int]) -> None:
    """Wait until the group has committed up to these offsets of the features topic."""
    reader = PositionReader(bootstrap)
    deadline = time.monotonic() + 60
    try:
        while True:
            at = reader.committed(topics.group("inference")).get(topics.features, {})
            if all(at.get(partition, 0) >= end for partition, end in ends.items()):
                return
            assert time.monotonic() < deadline, f"answered up to {at}, not {ends}, after 60 s"
            time.sleep(0.02)
    finally:
        reader.close()


def control_log(bootstrap: str, topics: Topics) -> list[ModelEvent]:
    follower = ControlFollower(bootstrap, topics.models)
    try:
        return decode_model_events(follower.catch_up())
    finally:
        follower.close()


def check_versions(bootstrap: str, topics: Topics) -> Counter[int]:
    """Assert that each answer is by whom the log says; return version → answers."""
    said = announced(control_log(bootstrap, topics))
    decode = msgspec.json.Decoder(Prediction).decode
    counted: Counter[int] = Counter()
    for batch in read_ranges(
        bootstrap, topics.predictions, offset_bounds(bootstrap, topics.predictions, PARTITIONS)
    ):
        answers = [decode(value) for value in batch.values if value is not None]
        of: dict[Routing, list[tuple[Prediction, int]]] = {}
        for answer in answers:
            offset = int(answer.prediction_id.rsplit("-", 2)[1])
            of.setdefault(routing_at(said, batch.partition, offset), []).append((answer, offset))
        for routing, mine in of.items():
            entities = [answer.entity for answer, _ in mine]
            wanted = versions_of(routing, entities).tolist()
            assert [answer.model_version for answer, _ in mine] == wanted
            stages = [arm.stage for arm in routing.arms] + [
                "live"
            ]  # the last where there is no arm
            arms = arms_of(routing, entities).tolist()
            assert [answer.stage for answer, _ in mine] == [stages[arm] for arm in arms]
        counted.update(answer.model_version for answer in answers)
        for answer in answers:
            assert not answer.model_version or answer.score == score_of(answer.model_version)
    return counted


def announced(events: Sequence[ModelEvent]) -> list[Activated]:
    return [e for e in events if isinstance(e, Activated) and e.routing is not None]


def routing_at(said: Sequence[Activated], partition: int, offset: int) -> Routing:
    """Return the routing of the last announcement at or before the offset; else the prior's."""
    for event in reversed(said):
        first = event.positions.get(str(partition))
        if first is not None and first <= offset and event.routing is not None:
            return event.routing
    return Routing(0)
