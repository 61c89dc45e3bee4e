"""The schedule by the clock on the wall."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from streams.clock import ManualClock
from streams.control import ControlFollower, ControlWriter, decode_command
from streams.kafka_client import producer
from streams.wire import Retrain
from tests.training.pipelines import PARTITIONS, Log, new_log, time_ms
from training.retraining.triggers import WallSchedule

pytestmark = pytest.mark.broker
HOUR_MS = 3_600_000
BEGIN_MS = time_ms(2_000)
NO_COMMAND = b"no command"
FIRST_SLOT_MS = BEGIN_MS // HOUR_MS * HOUR_MS


@pytest.fixture
def log(bootstrap: str) -> Log:
    return new_log(bootstrap)


@contextmanager
def schedule(log: Log, clock: ManualClock) -> Iterator[WallSchedule]:
    made = WallSchedule(log.bootstrap, log.topics, PARTITIONS, "1h", clock)
    try:
        yield made
    finally:
        made.close()


def asked(log: Log) -> list[tuple[int, int]]:
    """Return the slots asked for, in hours since the first, with their cut-offs."""
    follower = ControlFollower(log.bootstrap, log.topics.commands)
    try:
        values = [value for value in follower.catch_up() if value != NO_COMMAND]
    finally:
        follower.close()
    commands = [decode_command(value) for value in values]
    return [
        ((int(c.command_id.removeprefix("wall-")) - FIRST_SLOT_MS) // HOUR_MS, c.cutoff_ms)
        for c in commands
        if isinstance(c, Retrain) and c.command_id.startswith("wall-")
    ]


def test_every_slot_is_asked_for_once_and_behind_what_the_log_holds(log: Log) -> None:
    clock = ManualClock(BEGIN_MS)
    with schedule(log, clock) as made:
        for hours in range(3):
            log.fill(20 * hours, 20 * hours + 20)
            for _ in range(3):
                made.ask_when_due()
            clock.advance(HOUR_MS)
    assert asked(log) == [(1, time_ms(39) + 501), (2, time_ms(59) + 501)]


def test_after_a_restart_a_slot_is_neither_doubled_nor_lost(log: Log) -> None:
    clock = ManualClock(BEGIN_MS)
    log.fill(0, 20)
    with schedule(log, clock) as made:
        clock.advance(HOUR_MS)
        made.ask_when_due()
    with schedule(log, clock) as made:
        made.ask_when_due()
    log.fill(20, 40)
    clock.advance(5 * HOUR_MS)  # while none ran
    with schedule(log, clock) as made:
        made.ask_when_due()
    assert [slot for slot, _ in asked(log)] == [1, 6]


def test_one_that_another_has_asked_for_is_not_asked_for_again(log: Log) -> None:
    clock = ManualClock(BEGIN_MS)
    log.fill(0, 20)
    with schedule(log, clock) as one, schedule(log, clock) as two:
        clock.advance(HOUR_MS)
        one.ask_when_due()
        log.fill(20, 40)
        two.ask_when_due()
    assert [slot for slot, _ in asked(log)] == [1]


def test_nothing_new_is_no_reason_to_train(log: Log) -> None:
    clock = ManualClock(BEGIN_MS)
    with schedule(log, clock) as made:
        clock.advance(HOUR_MS)
        made.ask_when_due()  # the log is empty
        log.fill(0, 20)
        by_hand = Retrain("operator-1", "asked for by an operator", time_ms(19) + 501)
        ControlWriter(log.bootstrap).append_command(log.topics.commands, by_hand)
        clock.advance(HOUR_MS)
        made.ask_when_due()
        log.fill(20, 21)
        clock.advance(HOUR_MS)
        made.ask_when_due()
    assert asked(log) == [(3, time_ms(20) + 501)]


def test_what_is_dated_into_the_future_does_not_hold_up_the_schedule(log: Log) -> None:
    clock = ManualClock(BEGIN_MS)
    log.fill(0, 20)
    writer = producer(log.bootstrap)
    writer.produce(log.topics.commands, NO_COMMAND, b"k")
    writer.flush(30)
    log.append_label(writer, 0, b"{}", BEGIN_MS + 10 * HOUR_MS)
    writer.flush(30)
    with schedule(log, clock) as made:
        clock.advance(HOUR_MS)
        made.ask_when_due()
    assert asked(log) == [(1, BEGIN_MS + HOUR_MS)]
