"""Deciding on the rollout, with others who decide at the same time; real broker."""

import threading
from uuid import uuid4

import pytest

from streams.changes import Changes
from streams.control import ControlFollower, ControlWriter, decode_model_events
from streams.errors import ConfigurationError
from streams.kafka_client import producer
from streams.rollout import Rollout
from streams.topics import Topics, ensure_topics
from streams.wire import Pinned, Registered, StageChanged

pytestmark = pytest.mark.broker


@pytest.fixture
def topic(bootstrap: str) -> str:
    topics = Topics(f"t{uuid4().hex[:8]}")
    ensure_topics(bootstrap, topics.specs(1))
    writer = ControlWriter(bootstrap)
    for version in (1, 2, 3):
        event = Registered(version, f"c{version}", "file:///m", "00", {}, {}, None)
        writer.append_model_event(topics.models, event)
    return topics.models


def live(version: int, by: str = "operator") -> StageChanged:
    return StageChanged(version, "live", "a test", by=by)


def read(bootstrap: str, topic: str) -> Rollout:
    follower = ControlFollower(bootstrap, topic)
    try:
        return Rollout().apply_all(decode_model_events(follower.catch_up()))
    finally:
        follower.close()


def test_a_decision_is_numbered_and_counts(bootstrap: str, topic: str) -> None:
    changes = Changes(bootstrap, topic)
    first = changes.decide(lambda _: live(1))
    second = changes.decide(lambda state: Pinned(1, state.live, "hold"))
    assert isinstance(first, StageChanged)
    assert isinstance(second, Pinned)
    assert (first.change, second.change) == (1, 2)
    assert changes.rollout.live == 1
    assert read(bootstrap, topic).pinned == {1: 1}
    assert changes.decide(lambda _: None) is None
    changes.close()


def test_who_decided_on_a_past_state_decides_again(bootstrap: str, topic: str) -> None:
    changes, other = Changes(bootstrap, topic), Changes(bootstrap, topic)
    seen: list[int] = []

    def decision(state: Rollout) -> StageChanged | None:
        seen.append(state.live)
        if len(seen) == 1:  # between this one's deciding and its writing
            other.decide(lambda _: live(2))
        return live(3) if state.live != 3 else None

    decided = changes.decide(decision)
    assert decided is not None
    assert decided.change == 2
    assert seen == [0, 2]
    assert read(bootstrap, topic).before == {1: (2,)}
    changes.close()
    other.close()


def test_many_who_change_at_once_all_count_once(bootstrap: str, topic: str) -> None:
    def work(by: str) -> None:
        changes = Changes(bootstrap, topic)
        for version in (1, 2, 3):
            changes.decide(lambda _, v=version: live(v, by))  # type: ignore[misc]
        changes.close()

    threads = [threading.Thread(target=work, args=(f"w{n}",)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert read(bootstrap, topic).change == 9


def test_a_decision_behind_an_open_transaction_is_seen_to_count(bootstrap: str, topic: str) -> None:
    open_one = producer(bootstrap, transactional_id=f"x{uuid4().hex}")
    open_one.init_transactions(30)
    open_one.begin_transaction()
    open_one.produce(topic, b"{}", b"aborted")
    assert open_one.flush(30) == 0
    changes = Changes(bootstrap, topic)
    timer = threading.Timer(0.5, lambda: open_one.abort_transaction(30))
    timer.start()
    decided = changes.decide(lambda _: live(1))
    assert decided is not None
    assert changes.rollout.live == 1
    timer.join()
    changes.close()


def test_a_change_that_can_not_be_is_an_error(bootstrap: str, topic: str) -> None:
    changes = Changes(bootstrap, topic)
    with pytest.raises(ConfigurationError, match="does not allow"):
        changes.decide(lambda _: live(7))
    changes.decide(lambda _: Pinned(1, 1, "hold"))
    with pytest.raises(ConfigurationError, match="does not allow"):
        changes.decide(lambda _: live(2, by="policy"))
    assert read(bootstrap, topic).change == 1
    changes.close()
