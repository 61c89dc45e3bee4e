"""The rollout as a fold over its log."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.rollout import Rollout
from streams.wire import (
    Activated,
    ModelEvent,
    Registered,
    Stage,
    StageChanged,
    TrainingRefused,
    model_event_key,
)


def registered(version: int, command: str = "c") -> Registered:
    return Registered(
        version, f"{command}{version}", f"file:///m/{version}", "00", {}, {"brier": 0.1}, None
    )


def test_before_anything_version_0_is_live() -> None:
    assert Rollout().live == 0
    assert Rollout().versions == {}


def test_a_version_lives_from_its_stage_change_on() -> None:
    one = Rollout().apply(registered(1))
    assert (one.live, set(one.versions)) == (0, {1})
    assert one.answered_commands == frozenset()
    live = one.apply(StageChanged(1, "live", "first"))
    assert live.live == 1
    assert live.answered_commands == {"c1"}
    again = live.apply_all([registered(2), StageChanged(2, "live", "better")])
    assert (again.live, set(again.versions)) == (2, {1, 2})
    assert again.answered_commands == {"c1", "c2"}
    assert again.apply(StageChanged(1, "live", "back")).live == 1
    assert live.live == 1, "a state never changes"


def test_a_shadow_answers_until_it_is_retired() -> None:
    state = Rollout().apply_all([registered(1), StageChanged(1, "shadow", "try", {"0": 7})])
    assert state.shadows == {1: {"0": 7}}
    assert state.live == 0
    assert state.apply(StageChanged(1, "retired", "done")).shadows == {}
    assert state.apply(StageChanged(1, "live", "good")).live == 1


@pytest.mark.parametrize("stage", ["live", "shadow", "retired"])
def test_a_version_that_was_never_registered_enters_no_stage(stage: Stage) -> None:
    before = Rollout().apply_all([registered(1), StageChanged(1, "live", "first")])
    assert before.apply(StageChanged(7, stage, "typed by hand")) == before


def test_a_refused_training_answers_its_command() -> None:
    state = Rollout().apply(TrainingRefused("c9", "too few examples"))
    assert state.answered_commands == {"c9"}
    assert state.live == 0


def test_the_newest_activation_of_a_worker_counts() -> None:
    first = Activated(1, "live", "inference-a", {"0": 5})
    second = Activated(1, "live", "inference-a", {"0": 5, "1": 9})
    other = Activated(1, "live", "inference-b", {"2": 3})
    state = Rollout().apply_all([registered(1), first, other, second])
    assert state.activated == {
        (1, "live", "inference-a"): second,
        (1, "live", "inference-b"): other,
    }


VERSIONS = st.integers(1, 3)
EVENTS: st.SearchStrategy[ModelEvent] = st.one_of(
    st.builds(registered, VERSIONS),
    st.builds(StageChanged, VERSIONS, st.sampled_from(["live", "shadow", "retired"]), st.just("x")),
    st.builds(Activated, VERSIONS, st.just("live"), st.sampled_from("ab"), st.just({"0": 1})),
    st.builds(TrainingRefused, st.sampled_from("xyz"), st.just("why")),
)


@given(st.lists(EVENTS, max_size=30))
def test_the_state_is_a_function_of_the_log_and_survives_json(events: list[ModelEvent]) -> None:
    log: list[ModelEvent] = [*map(registered, (1, 2, 3)), *events]
    decoder = msgspec.json.Decoder(ModelEvent)
    through_json = [decoder.decode(msgspec.json.encode(event)) for event in log]
    whole = Rollout().apply_all(log)
    half = Rollout().apply_all(log[: len(log) // 2]).apply_all(log[len(log) // 2 :])
    assert whole == half == Rollout().apply_all(through_json)


@given(st.lists(EVENTS, max_size=30))
def test_compaction_keeps_who_is_live(events: list[ModelEvent]) -> None:
    """Keeping the newest record per key, at its place, must not change the state."""
    log: list[ModelEvent] = [*map(registered, (1, 2, 3)), *events]
    last = {model_event_key(event): i for i, event in enumerate(log)}
    compacted = [event for i, event in enumerate(log) if last[model_event_key(event)] == i]
    versions = [event for event in compacted if isinstance(event, Registered)]
    # A stage change may stand before the newest record of its version; what is known first
    # does not matter to a reader that reads to the end.
    whole, kept = Rollout().apply_all(log), Rollout()
    kept = kept.apply_all([*versions, *compacted])
    assert kept.live == whole.live
    assert kept.versions == whole.versions
    assert kept.activated == whole.activated
    assert kept.shadows == whole.shadows
