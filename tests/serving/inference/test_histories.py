"""Models that see an entity's last events, on a real broker: the same answer whatever happens."""

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

import serving.inference.histories
from serving.inference.entity_events import EntityEvents
from serving.inference.histories import HistoryKeeper
from serving.inference.stretches import Outgoing, Place, Position
from serving.inference.transaction import TransactionalHop
from streams.batch import LogBatch
from streams.replay import offset_bounds, read_ranges
from streams.topics import Topics
from streams.wire import Activated, DefinitionChanged
from tests.serving.feature_stream import (
    DEFINITION,
    PARTITIONS,
    V2,
    append,
    committed_answers,
    control_log,
    live,
    new_pipeline,
    registered,
    shadow,
    wait_activated,
    wait_drained,
    wait_switched,
    working,
)
from tests.serving.history_stream import (
    Gate,
    emit,
    expected,
    load,
    of_version,
    snapshots,
    with_repeats,
)

pytestmark = pytest.mark.broker
WORKER = Path(__file__).with_name("killable_history_worker.py")


@pytest.fixture
def topics(bootstrap: str) -> Topics:
    return new_pipeline(bootstrap, V2)


def fill(bootstrap: str, topics: Topics, begin: int, end: int) -> None:
    for partition in range(PARTITIONS):
        emit(bootstrap, topics, partition, with_repeats(begin, end, partition))


def all_expected(end: int, last: int) -> dict[str, float]:
    return {k: v for p in range(PARTITIONS) for k, v in expected(p, end, last).items()}


def test_answers_are_those_of_the_log_over_restarts_and_two_workers(
    bootstrap: str, topics: Topics, tmp_path: Path
) -> None:
    append(bootstrap, topics, registered(12), live(12))
    fill(bootstrap, topics, 0, 300)
    with working(bootstrap, topics, loader=load, max_batch=37, home=tmp_path):
        wait_drained(bootstrap, topics)
    assert len(snapshots(tmp_path)) == PARTITIONS
    with working(bootstrap, topics, loader=load, max_batch=23, home=tmp_path):
        fill(bootstrap, topics, 300, 400)  # it ends in the middle of these
    snapshots(tmp_path)[0].write_bytes(b"kappa-snapshot 1 damaged")
    with (
        working(bootstrap, topics, loader=load, max_batch=11, home=tmp_path),
        working(bootstrap, topics, worker="w1", loader=load, max_batch=50, home=tmp_path / "x"),
    ):
        fill(bootstrap, topics, 400, 600)
        wait_drained(bootstrap, topics)
    answers = committed_answers(bootstrap, topics.predictions)
    assert len(answers) == 600 * PARTITIONS
    assert of_version(answers, 12) == all_expected(600, 12)


@pytest.mark.slow
def test_killed_workers_change_no_answer(bootstrap: str, topics: Topics, tmp_path: Path) -> None:
    append(bootstrap, topics, registered(12), live(12))
    fill(bootstrap, topics, 0, 1500)
    command = [sys.executable, str(WORKER), bootstrap, topics.name, str(tmp_path)]
    for answered in (300, 1700):
        with subprocess.Popen(command) as process:
            deadline = time.monotonic() + 60
            while sum(end for _, end in bounds(bootstrap, topics)) < answered:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            process.kill()
    with working(bootstrap, topics, loader=load, home=tmp_path):
        wait_drained(bootstrap, topics)
    answers = committed_answers(bootstrap, topics.predictions)
    assert len(answers) == 1500 * PARTITIONS
    assert of_version(answers, 12) == all_expected(1500, 12)


def bounds(bootstrap: str, topics: Topics) -> list[tuple[int, int]]:
    return list(offset_bounds(bootstrap, topics.predictions, PARTITIONS).values())


def test_a_commit_that_fails_or_whose_outcome_is_unknown_changes_nothing(
    bootstrap: str, topics: Topics, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, calls = TransactionalHop.commit, [0]

    def fragile(
        hop: TransactionalHop, outgoing: list[Outgoing], reached: Mapping[Place, Position]
    ) -> bool:
        calls[0] += 1
        if calls[0] % 4 == 2:  # it went through, and nobody has heard of it
            commit(hop, outgoing, reached)
        if calls[0] % 2:
            return commit(hop, outgoing, reached)
        hop._give_up(KafkaException(KafkaError(KafkaError._TIMED_OUT)))
        return False

    opened, places = HistoryKeeper.opened, list[Place]()

    def counted(keeper: HistoryKeeper, at: Place, *args: Any) -> EntityEvents:
        places.append(at)
        return opened(keeper, at, *args)

    append(bootstrap, topics, registered(12), live(12))
    fill(bootstrap, topics, 0, 250)
    monkeypatch.setattr(TransactionalHop, "commit", fragile)
    monkeypatch.setattr(HistoryKeeper, "opened", counted)
    with working(bootstrap, topics, loader=load, max_batch=120, home=tmp_path):
        wait_drained(bootstrap, topics)
    assert calls[0] > 4
    assert len(places) == PARTITIONS, "what is held is not read again"
    answers = committed_answers(bootstrap, topics.predictions)
    assert of_version(answers, 12) == all_expected(250, 12)


def test_the_version_before_answers_until_histories_are_there(
    bootstrap: str, topics: Topics, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate()

    def slow(*args: object) -> Iterator[LogBatch]:
        gate.wait()
        return read_ranges(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(serving.inference.histories, "read_ranges", slow)
    append(bootstrap, topics, registered(1), live(1))
    fill(bootstrap, topics, 0, 100)
    with working(bootstrap, topics, loader=load, home=tmp_path):
        wait_drained(bootstrap, topics)
        append(bootstrap, topics, registered(20), live(20))
        assert gate.waited.wait(60)
        fill(bootstrap, topics, 100, 200)
        wait_drained(bootstrap, topics)  # nobody waits for the histories
        gate.opened.set()
        since = wait_activated(bootstrap, topics, 20)
        fill(bootstrap, topics, 200, 300)
        wait_drained(bootstrap, topics)
        append(bootstrap, topics, registered(2), live(2), registered(15), live(15))
        wait_activated(bootstrap, topics, 15)
        fill(bootstrap, topics, 300, 350)
        wait_drained(bootstrap, topics)
    answers = committed_answers(bootstrap, topics.predictions)
    assert len(answers) == 350 * PARTITIONS
    by = {v: of_version(answers, v) for v in (1, 20, 15)}
    assert {v: len(of) for v, of in by.items()} == {1: 400, 20: 200, 15: 100}
    assert by[20].items() <= all_expected(350, 20).items()
    assert by[15].items() <= all_expected(350, 15).items()
    assert since.positions.keys() == {"0", "1"}


def test_a_shadow_over_the_past_says_what_the_live_one_would_have(
    bootstrap: str, topics: Topics, tmp_path: Path
) -> None:
    fill(bootstrap, topics, 0, 200)
    with working(bootstrap, topics, "shadow", "s0", loader=load, home=tmp_path):
        append(bootstrap, topics, registered(12), registered(30), shadow(12, {"0": 150}))
        wait_drained(bootstrap, topics, "shadow")
        append(bootstrap, topics, shadow(30, {}))
        wait_activated(bootstrap, topics, 30)
        fill(bootstrap, topics, 200, 260)
        wait_drained(bootstrap, topics, "shadow")
    answers = committed_answers(bootstrap, topics.shadow)
    for version in (12, 30):
        found = of_version(answers, version)
        assert len(found) >= 60 * PARTITIONS
        assert found.items() <= all_expected(260, version).items()


def test_a_cut_over_waits_for_the_histories_of_the_new_definition(
    bootstrap: str, topics: Topics, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate()

    def slow(*args: object) -> Iterator[LogBatch]:
        gate.wait()
        return read_ranges(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(serving.inference.histories, "read_ranges", slow)
    append(bootstrap, topics, registered(1), live(1), registered(12, definition=2))
    fill(bootstrap, topics, 0, 150)
    for partition in range(PARTITIONS):  # ahead of what is answered
        emit(bootstrap, topics, partition, with_repeats(0, 250, 5), V2)
    with working(bootstrap, topics, loader=load, definitions=(DEFINITION, V2), home=tmp_path):
        wait_drained(bootstrap, topics)
        append(bootstrap, topics, DefinitionChanged(1, 2, 1, 12, PARTITIONS, "x"))
        assert gate.waited.wait(60)
        fill(bootstrap, topics, 150, 200)
        wait_drained(bootstrap, topics)
        gate.opened.set()
        wait_switched(bootstrap, topics)
        wait_drained(bootstrap, topics, definition=V2)
    answers = committed_answers(bootstrap, topics.predictions)
    assert len(answers) == 250 * PARTITIONS
    wanted = {k: v for p in range(PARTITIONS) for k, v in expected(p, 250, 12, 2).items()}
    found = of_version(answers, 12)
    assert len(found) == 50 * PARTITIONS
    assert found.items() <= wanted.items()


def test_histories_that_nobody_needs_any_more_are_let_go(
    bootstrap: str, topics: Topics, tmp_path: Path
) -> None:
    append(bootstrap, topics, registered(12), live(12))
    with working(bootstrap, topics, loader=load, home=tmp_path):
        fill(bootstrap, topics, 0, 50)
        wait_drained(bootstrap, topics)
        append(bootstrap, topics, registered(1), live(1))
        wait_activated(bootstrap, topics, 1)
        deadline = time.monotonic() + 60
        while len(snapshots(tmp_path)) < PARTITIONS:  # saved as they were let go
            assert time.monotonic() < deadline
            time.sleep(0.02)
    announced = [e.version for e in control_log(bootstrap, topics) if isinstance(e, Activated)]
    assert announced == [12, 1]
