"""Repeated log lines are held back, and counted."""

import logging

import pytest

from streams.repeated_logs import KINDS, Seldom, kind_of

REFUSED = (
    "FAIL [rdkafka#producer-6] [thrd:127.0.0.1:9092/bootstrap]: 127.0.0.1:9092/bootstrap: Connect "
    "to ipv4#127.0.0.1:9092 failed: Connection refused (after 0ms in state CONNECT)"
)


class Timer:
    """A clock that is set."""

    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def timer() -> Timer:
    return Timer()


@pytest.fixture
def log(timer: Timer, caplog: pytest.LogCaptureFixture) -> logging.Logger:
    log = logging.getLogger("tests.repeated")
    log.filters = [Seldom(60.0, timer)]
    caplog.clear()
    return log


def test_repetitions_are_held_back_and_told_with_the_next(
    log: logging.Logger, timer: Timer, caplog: pytest.LogCaptureFixture
) -> None:
    for i in range(1_300):
        timer.now_s += 0.05
        log.warning(REFUSED.replace("producer-6", f"producer-{i % 9}").replace("0ms", f"{i}ms"))
    first, second = caplog.messages
    assert first == REFUSED.replace("producer-6", "producer-0")
    assert second.endswith("(and 1,199 more like it)")


def test_what_differs_passes(log: logging.Logger, caplog: pytest.LogCaptureFixture) -> None:
    log.warning(REFUSED)
    log.warning(REFUSED.replace("9092", "9093"))
    log.warning("%s was closed", "the connection")
    assert len(caplog.messages) == 3


def test_what_is_remembered_has_an_end(
    log: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    for i in range(KINDS + 1):
        log.warning("kind %s", "a" * i)
    log.warning("kind %s", "")
    assert len(caplog.messages) == KINDS + 2


def test_connections_and_times_do_not_make_a_kind() -> None:
    assert "producer" not in kind_of(REFUSED)
    assert "127.0.0.1:9092" in kind_of(REFUSED)
    assert kind_of(REFUSED) == kind_of(REFUSED.replace("CONNECT)", "CONNECT, 3 identical)"))
