"""The standing audit finds what was served wrongly, and nothing else. Real broker."""

from pathlib import Path
from uuid import uuid4

import msgspec
import numpy as np
import pytest

from features.aggregations import Count, Mean
from features.definition import Definition
from features.skew.audit import Difference, difference_of
from features.skew.online import OnlineSample
from features.skew.stage import StageAudit
from features.store.rows import entity_keys
from features.store.sqlite_store import FILE_NAME, SqliteStore
from streams.expressions import Value
from tests.features import shops
from tests.features.payments import (
    DEFINITION,
    PARTITIONS,
    Progress,
    feature_worker,
    payments,
    prepared,
    send,
)
from tests.features.served import Server, stage_of

pytestmark = [
    pytest.mark.broker,
    # kafka-python 3 leaves the self-pipe of a closed administration client to the collector
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


class Served:
    """A pipeline with events, a server of features and an audit."""

    def __init__(self, bootstrap: str, home: Path) -> None:
        self.bootstrap, self.home = bootstrap, home
        self.topics = prepared(bootstrap, f"t{uuid4().hex[:8]}")
        self.server = Server(bootstrap, stage_of(self.topics), home)
        self.now_s = 0.0
        self.produced = 0

    def produce(self, n: int = 400) -> None:
        send(self.bootstrap, self.topics, payments(self.produced, n))
        self.produced += n

    def audit(self, every: int = 1) -> StageAudit:
        """Return the audit as a process begins it."""
        stage = stage_of(self.topics)
        store = SqliteStore(self.home / "feast" / FILE_NAME)
        sample = OnlineSample(stage, store, 60.0, lambda: self.now_s)
        return StageAudit(self.bootstrap, stage, self.home, every, sample)


@pytest.fixture
def served(bootstrap: str, tmp_path: Path) -> Served:
    return Served(bootstrap, tmp_path)


def drained(audit: StageAudit) -> list[Difference]:
    """Audit everything there is, and return the differences."""
    while audit.turn():
        pass
    return audit.tally.taken().differences


def changed(value: bytes, feature: str, to: float) -> bytes:
    record = msgspec.json.decode(value)
    record["features"][feature] = to
    return msgspec.json.encode(record)


def test_what_the_log_gives_is_no_difference_and_a_restart_goes_on(served: Served) -> None:
    served.produce()
    served.server.serve()
    audit = served.audit()
    assert audit.turn() == 400
    assert (audit.tally.compared, audit.tally.different) == (400 - 8 - 4, 0)
    assert audit.tally.first_ms is not None
    assert audit.turn() == 0, "nothing new was served"
    audit.save()
    audit.close()

    served.produce()
    again = served.audit()
    assert again.turn() == 0, "what is not committed is not asked for yet"
    served.server.serve()
    assert again.turn() == 400, "it goes on where it was"
    assert again.tally.different == 0
    assert sum(compared for compared, _ in again.totals.values()) == 2 * (400 - 12)
    assert sum(again.positions.values()) == 800
    again.close()


def test_a_tampered_record_is_named_with_both_values(served: Served) -> None:
    served.produce()
    target: list[tuple[int, int, bytes]] = []

    def tamper(partition: int, offset: int, value: bytes) -> list[bytes]:
        if partition == 2 and offset == 30:
            target.append((partition, offset, value))
            return [changed(value, "sum_5m", 1234.5)]
        return [value]

    served.server.serve(tamper)
    audit = served.audit()
    (difference,) = drained(audit)
    ((_, _, value),) = target
    record = msgspec.json.decode(value)
    assert (difference.topic, difference.partition) == (served.topics.features, 2)
    assert (difference.offset, difference.feature) == (30, "sum_5m")
    assert difference.entity == record["entity"]
    assert difference.served == "1234.5"
    assert difference.expected == msgspec.json.encode(record["features"]["sum_5m"]).decode()
    assert audit.totals[2][1] == 1
    audit.close()


def test_records_that_are_missing_doubled_foreign_or_unreadable_are_found(served: Served) -> None:
    served.produce()

    def tamper(partition: int, offset: int, value: bytes) -> list[bytes]:
        match partition, offset:
            case 0, 10:
                return []
            case 1, 11:
                return [value, changed(value, "amount", -1.0)]
            case 1, 12:
                return [value, value]  # a worker that crashed repeats the same bytes
            case 2, 12:
                return [value, b"no json"]
            case _:
                return [value]

    served.server.serve(tamper)
    audit = served.audit()
    found = drained(audit)
    assert {(d.kind, d.partition) for d in found} == {
        ("missing", 0), ("different", 1), ("unreadable", 2),
    }  # fmt: skip
    assert len(found) == 3
    # A record for an event of which the log gives none, and another one for an event long judged.
    codec = b'{"event_id":"x","source":{"partition":0,"offset":99999},"features":{}}'
    served.server.emit_again(0, codec.replace(b"99999", b"5"))
    assert [d.kind for d in drained(audit)] == ["different"]
    served.server.emit_again(3, codec.replace(b'"partition":0', b'"partition":3'))
    assert drained(audit) == [], "nobody can tell before that event is there"
    audit.close()


def test_a_worker_that_runs_another_definition_is_found_at_every_row(
    bootstrap: str, served: Served, tmp_path: Path
) -> None:
    features = {**DEFINITION.features, "mean_1h": Mean(Value("amount"), "1h", "1m")}
    other = Definition(1, features, groups=DEFINITION.groups)
    served.produce(600)
    Server(bootstrap, stage_of(served.topics, other), tmp_path).serve()
    audit = served.audit()
    found = drained(audit)
    assert {d.feature for d in found} == {"mean_1h"}
    assert sum(different for _, different in audit.totals.values()) > 0
    audit.close()


def test_every_second_partition_is_audited_alone(served: Served) -> None:
    served.produce()
    served.server.serve(lambda _, offset, v: [changed(v, "amount", -1.0)] if offset == 3 else [v])
    audit = served.audit(every=2)
    assert {d.partition for d in drained(audit)} == {0, 2}
    assert set(audit.positions) == set(range(0, PARTITIONS, 2))
    audit.close()


def test_a_saved_audit_of_another_definition_is_not_used(served: Served) -> None:
    served.produce(100)
    served.server.serve()
    audit = served.audit()
    audit.turn()
    audit.save()
    audit.close()
    other = Definition(1, {"n": Count("1h", "5m")})
    begun = StageAudit(served.bootstrap, stage_of(served.topics, other), served.home)
    assert sum(begun.positions.values()) == 0
    begun.close()


# The online store


def tampered(served: Served, later_ms: int = 0, entity: str = "card7") -> None:
    """Give an entity another row, as somebody with access to the store could."""
    server = served.server
    (key,) = entity_keys("card", [entity])
    (found,) = server.store.read(server.view, [key])
    assert found is not None
    time_ms, row = found
    other = row[:-1] + bytes([row[-1] ^ 1])
    times = np.array([time_ms + later_ms], dtype=np.int64)
    assert server.store.write(server.view, [key], times, [other]) == 1


@pytest.mark.parametrize("later_ms", [0, 5_000], ids=["in its place", "as if it were newer"])
def test_a_tampered_online_row_is_found_once_it_has_lasted(served: Served, later_ms: int) -> None:
    served.produce()
    served.server.serve()
    audit = served.audit()
    drained(audit)
    audit.check_online()
    assert audit.online is not None
    assert (audit.online_tally.compared, audit.online_tally.different) == (len(audit.online), 0)
    audit.online_tally.taken()
    audit.save()
    audit.close()

    tampered(served, later_ms)
    again = served.audit()  # the sample outlasts a restart
    again.check_online()
    served.now_s = 59.0
    again.check_online()
    assert again.online_tally.different == 0, "it may be on its way"
    served.now_s = 60.0
    again.check_online()
    (difference,) = again.online_tally.differences
    assert (difference.entity, difference.kind) == ("card7", "different")
    assert difference.served != difference.expected
    again.close()


def test_rows_on_their_way_are_no_difference(served: Served) -> None:
    served.produce()
    served.server.serve()
    audit = served.audit()
    drained(audit)
    # The worker is ahead: newer rows stand online than the audit has seen.
    served.produce()
    served.server.serve()
    audit.check_online()
    served.now_s = 1000.0
    audit.check_online()
    assert audit.online_tally.different == 0
    drained(audit)
    audit.check_online()
    assert audit.online_tally.different == 0
    assert audit.online is not None
    assert audit.online_tally.compared == len(audit.online)
    audit.close()


# With workers as they are


@pytest.mark.slow
def test_both_stages_and_labels_of_real_workers_are_followed(
    bootstrap: str, tmp_path: Path
) -> None:
    def send_with_verdicts(number: int, n: int) -> None:
        """Append payments, and the verdicts that are known by then."""
        first_verdict, verdicts = max(0, number - 60), n if number else n - 60
        shops.send(bootstrap, first.topics.labels, shops.verdicts(first_verdict, verdicts))
        shops.send(bootstrap, first.topics.events, shops.payments(number, n))

    snapshots = ("--snapshot-every", "100")
    stages = shops.prepared(bootstrap, f"t{uuid4().hex[:8]}", shops.with_verdicts)
    first, last = stages
    audits = [StageAudit(bootstrap, stage, tmp_path) for stage in stages]
    send_with_verdicts(0, 600)
    with (
        shops.stage_worker(bootstrap, first, "with_verdicts", tmp_path, *snapshots) as one,
        shops.stage_worker(bootstrap, last, "with_verdicts", tmp_path, *snapshots) as two,
    ):
        shops.wait_drained(bootstrap, stages, [one, two])
        assert [drained(audit) for audit in audits] == [[], []]
        for audit in audits:
            audit.save()
            audit.close()
        audits = [StageAudit(bootstrap, stage, tmp_path) for stage in stages]
        for number in range(600, 1200, 200):
            send_with_verdicts(number, 200)
            if number == 800:
                two.kill()
        two.wait(10)
        with shops.stage_worker(bootstrap, last, "with_verdicts", tmp_path, *snapshots) as again:
            shops.wait_drained(bootstrap, stages, [one, again])
            assert [drained(audit) for audit in audits] == [[], []]
    for audit in audits:
        assert sum(compared for compared, _ in audit.totals.values()) == 1200 - 24
        audit.close()


def test_a_difference_names_the_first_feature_and_shortens_what_is_long() -> None:
    one = b'{"event_id":"e","entity":"a","features":{"x":1.0,"t":"%s"},"groups":{}}'
    expected, given = one % b"u", one % (b"v" * 100)
    found = difference_of(given, expected, "t", 0, 5)
    assert (found.entity, found.feature, found.expected) == ("a", "t", "u")
    assert len(found.served) < 70
    assert "t of entity 'a' was served as vvv" in str(found)


@pytest.mark.slow
def test_what_a_real_worker_keeps_online_is_followed_and_a_tampered_row_found(
    bootstrap: str, tmp_path: Path
) -> None:
    name = f"t{uuid4().hex[:8]}"
    topics = prepared(bootstrap, name)
    stage = stage_of(topics)
    send(bootstrap, topics, payments(0, 300, bad=False))
    store = SqliteStore(tmp_path / "feast" / FILE_NAME)
    now_s = [0.0]
    sample = OnlineSample(stage, store, 60.0, lambda: now_s[0])
    audit = StageAudit(bootstrap, stage, tmp_path, online=sample)
    progress = Progress(bootstrap, topics)
    with feature_worker(bootstrap, name, tmp_path) as process:
        progress.wait_drained(process)
        assert drained(audit) == []
        assert len(sample) == 40

        def all_there() -> bool:
            audit.check_online()
            return audit.online_tally.taken().compared == 40

        progress.wait_until(all_there, process)
        (key,) = entity_keys("card", ["card7"])
        (found,) = store.read(sample.name, [key])
        assert found is not None
        other = found[1][:-1] + bytes([found[1][-1] ^ 1])
        store.write(sample.name, [key], np.array([found[0]], dtype=np.int64), [other])
        for now_s[0] in (0.0, 61.0):
            audit.check_online()
        assert [d.entity for d in audit.online_tally.differences] == ["card7"]
    progress.close()
    audit.close()
