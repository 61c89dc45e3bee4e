"""The control logs: what is appended is followed, whole and in order."""

import time
import uuid

import msgspec
import pytest

from streams import control, kafka_client
from streams.control import ControlFollower, ControlWriter, decode_command, decode_model_events
from streams.errors import BrokerError
from streams.wire import Advance, Command, Registered, Retrain, StageChanged
from tests.streams.log_of_records import append, new_topic

REGISTERED = Registered(1, "c1", "file:///m", "ab", {"seed": 7}, {"brier": 0.125}, None)
LIVE = StageChanged(1, "live", "first model")


@pytest.fixture
def topic(bootstrap: str) -> str:
    return new_topic(bootstrap)


@pytest.mark.broker
def test_model_events_come_back_typed_and_in_order(bootstrap: str, topic: str) -> None:
    writer, follower = ControlWriter(bootstrap), ControlFollower(bootstrap, topic)
    try:
        assert follower.catch_up() == []
        writer.append_model_event(topic, REGISTERED)
        writer.append_model_event(topic, LIVE)
        assert decode_model_events(follower.catch_up()) == [REGISTERED, LIVE]
        assert follower.catch_up() == []
        assert follower.position == 2
    finally:
        follower.close()


@pytest.mark.broker
def test_commands_come_back_typed(bootstrap: str, topic: str) -> None:
    writer, follower = ControlWriter(bootstrap), ControlFollower(bootstrap, topic)
    commands: list[Command] = [Retrain("r1", "schedule", 1_000), Advance("a1", 2_000)]
    try:
        for command in commands:
            writer.append_command(topic, command)
        assert [decode_command(value) for value in follower.catch_up()] == commands
    finally:
        follower.close()


@pytest.mark.broker
def test_a_poll_returns_with_the_first_news(bootstrap: str, topic: str) -> None:
    follower = ControlFollower(bootstrap, topic)
    try:
        follower.catch_up()
        append(bootstrap, topic, [b"news"])
        began = time.monotonic()
        while not (values := follower.poll(10.0)):
            pass
        assert values == [b"news"]
        assert time.monotonic() - began < 5.0, "it waited for more than one record"
    finally:
        follower.close()


@pytest.mark.broker
def test_records_without_value_are_passed_over(bootstrap: str, topic: str) -> None:
    from streams.kafka_client import producer

    client = producer(bootstrap)
    client.produce(topic, None, b"stage/1/live")
    assert client.flush(10) == 0
    append(bootstrap, topic, [b"after"])
    follower = ControlFollower(bootstrap, topic)
    try:
        assert follower.catch_up() == [b"after"]
        assert follower.position == 2
    finally:
        follower.close()


@pytest.mark.broker
def test_a_topic_that_is_not_there_is_an_error(
    bootstrap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_client, "LEADER_TIMEOUT_S", 0.5)
    name = f"t{uuid.uuid4().hex[:8]}"
    follower = ControlFollower(bootstrap, name)
    try:
        with pytest.raises(BrokerError, match=name):
            follower.catch_up(timeout_s=1.0)
    finally:
        follower.close()


@pytest.mark.broker
def test_what_cannot_be_appended_is_an_error(
    bootstrap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "APPEND_TIMEOUT_S", 1.0)
    with pytest.raises(BrokerError, match="could not be appended"):
        ControlWriter(bootstrap).append_command(f"t{uuid.uuid4().hex[:8]}", Advance("a", 1))


@pytest.mark.parametrize("value", [b"", b"{}", b'{"type":"other"}', b'{"type":"retrain"}'])
def test_what_is_no_command_is_refused(value: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_command(value)


def test_records_of_before_a_field_came_are_still_read() -> None:
    old = b'{"type":"retrain","command_id":"r1","reason":"schedule","cutoff_ms":1000}'
    assert decode_command(old) == Retrain("r1", "schedule", 1_000, start=None, window=None)
    plain = msgspec.to_builtins(REGISTERED)
    del plain["comparison"], plain["definition"]
    (read,) = decode_model_events([msgspec.json.encode(plain)])
    assert read == REGISTERED
