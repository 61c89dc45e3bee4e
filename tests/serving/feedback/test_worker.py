"""The outcomes worker on a real broker: each prediction with a label has one outcome."""

import random
import subprocess
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from confluent_kafka import KafkaException

from serving.feedback import worker as working
from serving.feedback.audit import OutcomeAudit, audit_outcomes
from streams.errors import ConfigurationError, StateError
from streams.group_offsets import Committed, GroupOffsets
from streams.replay import offset_bounds
from streams.topics import connect_admin
from streams.wire import Outcome, Request, Source
from tests.serving.feedback.feedback_log import (
    DAY_MS,
    GROUPED,
    FeedbackLog,
    event_ms,
    turn_until,
)
from training.networks.tasks import Regression
from training.spec import Model

pytestmark = pytest.mark.broker

PROCESS = Path(__file__).with_name("killable_outcomes.py")


@pytest.fixture
def log(bootstrap: str) -> FeedbackLog:
    """A log of its own."""
    return FeedbackLog.new(bootstrap)


def told(outcomes: list[Outcome]) -> list[tuple[str, int]]:
    """Return what has outcomes: event ids and versions."""
    return sorted((o.event_id, o.model_version) for o in outcomes)


def test_labels_before_and_after_answers_of_several_versions(
    log: FeedbackLog, tmp_path: Path
) -> None:
    """Each version's answer gets its outcome, whichever of the two comes first."""
    log.label(range(5))
    with closing(log.worker(tmp_path)) as worker:
        log.drain(worker)
        log.predict(range(10))
        log.predict(range(10), version=2, stage="shadow")
        log.drain(worker)
        log.label(range(5, 9), partition=1)
        log.drain(worker)
    found = log.outcomes()
    assert told(found) == sorted((f"e0-{n}", version) for n in range(9) for version in (1, 2))
    first = next(o for o in found if o.event_id == "e0-4" and o.model_version == 2)
    name = log.pipeline.name
    assert first == Outcome(
        prediction_id=f"{name}.features.v1-0-4-v2",
        event_id="e0-4",
        entity="r1",
        score=0.42,
        label=1.0,
        model_version=2,
        stage="shadow",
        definition=1,
        event_time_ms=event_ms(4),
        label_time_ms=event_ms(4) + 3_600_000,
        label_source=Source(0, 4),
        source=Source(0, 4),
        features_offset=4,
        features_partition=0,
        latency_ms=7,
    )
    account = log.account()
    assert (account.counts.matched, account.waiting) == (18, 2)


def test_groups_come_from_the_features(log: FeedbackLog, tmp_path: Path) -> None:
    """An answer of a definition with groups waits for them too; one of another does not."""
    log.label(range(6))
    log.predict(range(6), definition=GROUPED.version)
    log.predict(range(6), version=2, stage="shadow")
    with closing(log.worker(tmp_path)) as worker:
        log.drain(worker)
        assert {o.model_version for o in log.outcomes()} == {2}
        log.features(range(6))
        log.drain(worker)
    groups = {(o.event_id, o.model_version): o.groups for o in log.outcomes()}
    assert len(groups) == 12
    assert groups["e0-3", 1] == {"user": "guest"}
    assert groups["e0-4", 1] == {"user": "member"}
    assert groups["e0-4", 2] is None


def test_what_was_asked_over_http(log: FeedbackLog, tmp_path: Path) -> None:
    """A request's answer is matched by the client's event id, and its own id is the outcome's."""
    asked = Request(
        "q1", "e0-3", "r0", 0.7, 4, "live", 1, event_ms(3), event_ms(3) + 12, "store", {"a": 1.0}
    )
    log.ask([asked])
    log.label(range(4))
    with closing(log.worker(tmp_path)) as worker:
        log.drain(worker)
    (outcome,) = log.outcomes()
    assert (outcome.prediction_id, outcome.entity, outcome.score) == ("q1", "r0", 0.7)
    assert (outcome.latency_ms, outcome.label, outcome.source) == (12, 0.0, None)
    assert outcome.features_offset is None


def test_late_unknown_repeated_and_unusable_labels_are_counted(
    bootstrap: str, tmp_path: Path
) -> None:
    """A label beyond the span has no outcome; what nobody answered is told from it."""
    log = FeedbackLog.new(bootstrap, within="1d")
    log.predict(range(4))
    log.label(range(1), delay_ms=DAY_MS)  # just in time
    log.label(range(1, 2), delay_ms=DAY_MS + 1)  # late, while the answer waits
    log.label(range(1))  # the first one counts
    log.label(range(900, 901))  # of an event that nobody answered
    log.produce(log.pipeline.topics.labels, 0, [b"{"])
    with closing(log.worker(tmp_path)) as worker:
        log.drain(worker)
        # Time passes for all partitions, beyond what a label can wait for.
        later = range(20_000, 20_002)
        for partition in (0, 1):
            log.predict(later, partition=partition)
            log.label(later, partition=partition, of=partition)
        log.drain(worker)
        turn_until(worker, lambda: worker.state.joining.events <= 4)
        log.label(range(2, 3), delay_ms=2 * DAY_MS)
        log.drain(worker)
    assert told(log.outcomes()) == sorted(
        [("e0-0", 1), *((f"e{p}-{n}", 1) for p in (0, 1) for n in later)]
    )
    account = log.account()
    counts = account.counts
    assert (counts.late, counts.unknown, counts.duplicates, counts.unusable) == (1, 1, 1, 1)
    assert (counts.unlabelled, account.waiting) == (3, 0)
    assert account.match_rate == 5 / 8


def test_other_tasks_keep_what_was_answered(bootstrap: str, tmp_path: Path) -> None:
    """A spread is in the outcome; the label is the target of the task."""
    log = FeedbackLog.new(bootstrap, Model(task=Regression()))
    log.predict(range(3), spread=1.5)
    log.label(range(3))
    with closing(log.worker(tmp_path)) as worker:
        log.drain(worker)
    assert [(o.spread, o.probabilities) for o in log.outcomes()] == [(1.5, None)] * 3


def test_through_crashes_each_has_one_outcome(
    log: FeedbackLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records come in any order, and the worker dies again and again, also with a snapshot old."""
    monkeypatch.setattr(working, "COMMIT_RECORDS", 30)
    monkeypatch.setattr(working, "COMMIT_EVERY_S", 0.0)
    seeded = random.Random(5)
    work = [
        *((log.predict, (range(n, n + 20), 1)) for n in range(0, 200, 20)),
        *((log.predict, (range(n, n + 20), 2)) for n in range(0, 200, 20)),
        *((log.predict, (range(n, n + 20), 2, "shadow")) for n in range(0, 200, 20)),
        *((log.label, (range(n, n + 20), n // 20 % 2)) for n in range(0, 200, 20)),
    ]
    seeded.shuffle(work)
    worker = log.worker(tmp_path)
    for write, arguments in work:
        write(*arguments)  # type: ignore[operator]
        for _ in range(seeded.randrange(6)):
            worker.turn()
        if seeded.random() < 0.3:
            worker.close()  # without an end: an open transaction, no snapshot
            worker = log.worker(tmp_path)
    with closing(worker):
        log.drain(worker)
    assert told(log.outcomes()) == sorted((f"e0-{n}", v) for n in range(200) for v in (1, 2, 2))
    assert len({(o.prediction_id, o.stage) for o in log.outcomes()}) == 600
    assert log.account().counts.matched == 600
    audit = audit_outcomes(log.bootstrap, log.pipeline)
    assert audit == OutcomeAudit(600, 0, 0, 0)
    # The audit would notice.
    one, *_ = log.outcomes()
    strange = msgspec.structs.replace(one, prediction_id="strange")
    log.produce(log.pipeline.topics.outcomes, 0, list(map(msgspec.json.encode, (one, strange))))
    assert audit_outcomes(log.bootstrap, log.pipeline) == OutcomeAudit(602, 0, 1, 1)


def test_the_audit_misses_what_has_no_outcome(log: FeedbackLog, tmp_path: Path) -> None:
    """Only what the worker says it has read is demanded of it."""
    log.predict(range(10))
    log.label(range(10))
    assert audit_outcomes(log.bootstrap, log.pipeline) is None
    with closing(log.worker(tmp_path)) as worker:
        log.drain(worker)
    log.predict(range(10, 20))
    log.label(range(10, 20))
    assert audit_outcomes(log.bootstrap, log.pipeline) == OutcomeAudit(10, 0, 0, 0)
    topics = log.pipeline.topics
    for topic in (topics.predictions, topics.labels):  # as if it had read what it did not
        offsets = GroupOffsets(log.bootstrap, topics.group("outcomes"), topic)
        offsets.commit({0: Committed(offset_bounds(log.bootstrap, topic, 1)[0][1], "")})
        offsets.close()
    assert audit_outcomes(log.bootstrap, log.pipeline) == OutcomeAudit(10, 10, 0, 0)


def test_killed_in_a_transaction_and_after_it(log: FeedbackLog, tmp_path: Path) -> None:
    """Killed processes leave nothing twice, and lose nothing."""
    for step, (number, how) in enumerate([(1, "after"), (2, "open")]):
        log.predict(range(100 * step, 100 * step + 100))
        log.label(range(100 * step, 100 * step + 100))
        command = [log.bootstrap, log.pipeline.name, str(tmp_path), str(number), how]
        ended = subprocess.run([sys.executable, str(PROCESS), *command], timeout=60, check=False)
        assert ended.returncode == -9
    with closing(log.worker(tmp_path)) as worker:
        log.drain(worker)
    assert told(log.outcomes()) == sorted((f"e0-{n}", 1) for n in range(200))


def test_lost_positions_are_found_again_in_the_outcomes(log: FeedbackLog, tmp_path: Path) -> None:
    """A broker forgets an idle group: what is written is not written again, the rest is."""
    log.predict(range(50))
    log.predict(range(20, 50), stage="shadow")  # by the same version: of the same id
    log.label(range(30))
    with closing(log.worker(tmp_path)) as worker:
        log.drain(worker)
        worker.finish()
    log.label(range(30, 40))
    admin = connect_admin(log.bootstrap)
    admin.delete_groups([log.pipeline.topics.group("outcomes")])
    admin.close()
    with closing(log.worker(tmp_path)) as worker:
        log.label(range(40, 50))
        log.drain(worker)
    times = Counter(told(log.outcomes()))
    assert times == {(f"e0-{n}", 1): 1 + (n >= 20) for n in range(50)}


def test_a_foreign_record_is_named(log: FeedbackLog, tmp_path: Path) -> None:
    """Nobody can go on from what is no prediction; the message says where it stands."""
    topic = log.pipeline.topics.predictions
    log.produce(topic, 1, [b'{"prediction_id": 3}'])
    named = pytest.raises(StateError, match=f"{topic} partition 1, offsets 0 to 0")
    with closing(log.worker(tmp_path)) as worker, named:
        turn_until(worker, lambda: False)


def test_a_second_worker_ends_the_first(log: FeedbackLog, tmp_path: Path) -> None:
    """On one machine it may not start; from another one it fences the first."""
    log.predict(range(10))
    with closing(log.worker(tmp_path / "a")) as first:
        with pytest.raises(ConfigurationError, match="another"):
            log.worker(tmp_path / "a")
        log.drain(first)
        with closing(log.worker(tmp_path / "b")) as second:
            log.label(range(10))
            with pytest.raises(KafkaException):
                turn_until(first, lambda: False)
            log.drain(second)
    assert told(log.outcomes()) == [(f"e0-{n}", 1) for n in range(10)]
