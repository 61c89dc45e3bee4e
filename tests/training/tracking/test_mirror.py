"""What the registry should show of a rollout, and following the models topic."""

import threading
import time
from collections.abc import Callable
from uuid import uuid4

import pytest

from streams.control import ControlWriter
from streams.rollout import Rollout
from streams.topics import TopicSpec, ensure_topics
from streams.wire import DefinitionChanged, ModelEvent, Registered, StageChanged
from training.tracking import mirror
from training.tracking.following import RolloutWatch
from training.tracking.mirror import Mirrored, RegistryMirror, desired


def of_version(version: int, definition: int = 1) -> Registered:
    return Registered(
        version, f"c{version}", f"file:///m/{version}", f"sha{version}", {}, {}, None, definition
    )


def stages(*events: ModelEvent) -> tuple[dict[int, str], dict[str, int]]:
    wanted = desired(Rollout().apply_all(events))
    return {of.tags.version: of.stage for of in wanted.versions}, wanted.aliases


def test_nothing_is_registered() -> None:
    assert desired(Rollout()) == Mirrored()


def test_a_version_that_is_not_live_yet_has_no_alias() -> None:
    assert stages(of_version(1)) == ({1: "archived"}, {})


def test_live_shadow_and_those_before() -> None:
    events: list[ModelEvent] = [
        of_version(1), StageChanged(1, "live", "a"), of_version(2), StageChanged(2, "live", "b"),
        of_version(3), StageChanged(3, "shadow", "c", {}),
    ]  # fmt: skip
    assert stages(*events) == (
        {1: "archived", 2: "live", 3: "shadow"},
        {"live": 2, "shadow": 3},
    )
    assert stages(*events, StageChanged(3, "retired", "d"))[1] == {"live": 2}


def test_of_several_definitions_each_has_its_live_model() -> None:
    events: list[ModelEvent] = [
        of_version(1), StageChanged(1, "live", "a"),
        of_version(2, definition=2), StageChanged(2, "live", "b"),
    ]  # fmt: skip
    order = DefinitionChanged(1, 2, before=1, model_version=2, partitions=1, reason="x")
    found = stages(*events, order)
    assert found[0] == {1: "live on its definition", 2: "live"}
    assert found[1] == {"live": 2, "live-on-1": 1, "live-on-2": 2}


def test_one_job_at_a_time_and_the_newest_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    applied: list[Mirrored] = []
    jobs: list[Callable[[], None]] = []
    monkeypatch.setattr(mirror, "apply", lambda _client, _name, wanted: applied.append(wanted))
    shown = RegistryMirror(jobs.append, lambda: object(), "bikes")
    first = Rollout().apply(of_version(1))
    second = first.apply(StageChanged(1, "live", "a"))
    shown.tell(first)
    shown.tell(second)
    assert len(jobs) == 1
    jobs.pop()()
    assert applied == [desired(second)]
    shown.tell(second)
    assert not jobs
    shown.tell(first)
    jobs.pop()()
    assert applied[1:] == [desired(first)]


def test_after_a_failure_the_next_trial_comes_later(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise OSError("no server")

    jobs: list[Callable[[], None]] = []
    monkeypatch.setattr(mirror, "apply", fails)
    shown = RegistryMirror(jobs.append, lambda: object(), "bikes")
    shown.tell(Rollout().apply(of_version(1)))
    with pytest.raises(OSError, match="no server"):
        jobs.pop()()
    shown.tell(Rollout().apply(of_version(1)))
    assert not jobs
    later = time.monotonic() + 61
    monkeypatch.setattr(time, "monotonic", lambda: later)
    shown.tell(Rollout().apply(of_version(1)))
    assert len(jobs) == 1


@pytest.mark.broker
def test_the_topic_is_followed(bootstrap: str) -> None:
    topic = f"t{uuid4().hex[:8]}.models.v1"
    ensure_topics(bootstrap, [TopicSpec(topic, 1)])
    writer = ControlWriter(bootstrap)
    writer.append_model_event(topic, of_version(1))
    seen: list[int] = []
    live = threading.Event()

    def tell(rollout: Rollout) -> None:
        seen.append(len(rollout.versions))
        if rollout.live:
            live.set()

    with RolloutWatch(bootstrap, topic, tell, every_s=0.05):
        writer.append_model_event(topic, StageChanged(1, "live", "first"))
        assert live.wait(30)
        writer.append_model_event(topic, of_version(2))
    assert seen[-1] == 2  # what came last is told before it ends
