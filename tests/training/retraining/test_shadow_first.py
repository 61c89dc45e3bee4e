"""With a rollout declared the trainer puts a version into shadow; the log tells the rest."""

from contextlib import suppress
from pathlib import Path

import pytest

from streams.changes import Changes
from streams.kafka_client import producer
from streams.rollout import Rollout
from streams.wire import Pinned, Registered, StageChanged
from tests.training.retraining.test_trainer import (
    GOOD,
    FakeTraining,
    Log,
    retrain,
    running,
    trainer,
)
from training.retraining.asking import answer
from training.retraining.trainer import Trainer

pytestmark = pytest.mark.broker


@pytest.fixture
def log(bootstrap: str) -> Log:
    return Log(bootstrap)


def shadowing(log: Log, home: Path) -> Trainer:
    worker = trainer(log.bootstrap, log.topics, home, FakeTraining())
    worker.shadow_first = True
    return worker


def features(log: Log, n: int) -> None:
    """Let n records stand in partition 1 of the features."""
    client = producer(log.bootstrap)
    for _ in range(n):
        client.produce(log.topics.features, b"{}", b"k", 1)
    assert client.flush(30) == 0


def rollout_of(log: Log) -> Rollout:
    return Rollout().apply_all(log.answers())


def staged(log: Log) -> list[tuple[int, str, str, int]]:
    events = [e for e in log.answers() if isinstance(e, StageChanged)]
    return [(e.version, e.stage, e.by, e.change) for e in events]


def test_the_first_is_live_and_the_next_waits_in_shadow(log: Log, tmp_path: Path) -> None:
    with running(shadowing(log, tmp_path)):
        log.command(retrain(1))
        log.await_committed(1)
        features(log, 3)
        log.command(retrain(2))
        log.await_committed(2)
    assert staged(log) == [(1, "live", "trainer", 1), (2, "shadow", "trainer", 2)]
    rollout = rollout_of(log)
    assert rollout.live == 1
    assert rollout.shadows == {2: {"0": 0, "1": 3}}
    assert rollout.answered_commands == {"c1", "c2"}
    told = answer(log.answers(), "c2")
    assert told is not None
    assert (told.version, told.stage) == (2, "shadow")


def test_a_newer_one_takes_the_place_in_shadow_but_not_of_what_others_put_there(
    log: Log, tmp_path: Path
) -> None:
    with running(shadowing(log, tmp_path)):
        for number in (1, 2):
            log.command(retrain(number))
        log.await_committed(2)
        log.model_event(Registered(3, "by-hand", "", "", {}, GOOD, None))
        log.model_event(StageChanged(3, "shadow", "to look", since={}, by="operator", change=3))
        log.command(retrain(4))
        log.await_committed(3)
    assert staged(log)[3:] == [(2, "retired", "trainer", 4), (4, "shadow", "trainer", 5)]
    assert rollout_of(log).stages == {1: "live", 2: "retired", 3: "shadow", 4: "shadow"}


def test_one_in_canary_goes_on(log: Log, tmp_path: Path) -> None:
    with running(shadowing(log, tmp_path)):
        for number in (1, 2):
            log.command(retrain(number))
        log.await_committed(2)
        log.model_event(
            StageChanged(2, "canary", "good", share=0.1, salt="s", by="policy", change=3)
        )
        log.command(retrain(3))
        log.await_committed(3)
    assert rollout_of(log).stages == {1: "live", 2: "canary", 3: "shadow"}


def test_under_a_pin_a_version_is_in_shadow_and_never_live(log: Log, tmp_path: Path) -> None:
    log.model_event(Pinned(1, 0, "the prior, please", change=1))
    with running(shadowing(log, tmp_path)):
        log.command(retrain(1))
        log.await_committed(1)
    assert staged(log) == [(1, "shadow", "trainer", 2)]
    assert rollout_of(log).live == 0


@pytest.mark.parametrize("decided", [1, 4])
def test_a_half_answer_is_completed_whole(
    log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decided: int
) -> None:
    """The trainer dies at the n-th decision about version 3 (whether it is the first, the
    retirement, the shadow); the next one goes on from there."""
    with running(shadowing(log, tmp_path)):
        for number in (1, 2):
            log.command(retrain(number))
        log.await_committed(2)
    decide, asked = Changes.decide, []

    def dies(self: Changes, decision: object) -> object:
        asked.append(1)
        if len(asked) == decided:
            raise KeyboardInterrupt
        return decide(self, decision)  # type: ignore[arg-type]

    monkeypatch.setattr(Changes, "decide", dies)
    log.command(retrain(3))
    worker = shadowing(log, tmp_path)
    with suppress(AssertionError), running(worker) as stop:
        while len(asked) < decided and not stop.is_set():
            stop.wait(0.05)
    assert 3 in rollout_of(log).versions
    assert log.committed() == 2
    monkeypatch.setattr(Changes, "decide", decide)
    with running(shadowing(log, tmp_path)):
        log.await_committed(3)
    rollout = rollout_of(log)
    assert rollout.stages == {1: "live", 2: "retired", 3: "shadow"}
    assert [e.version for e in log.answers() if isinstance(e, Registered)] == [1, 2, 3]
    assert rollout.change == 4
