"""What changes make of the rollout; whatever comes, some things always hold."""

from dataclasses import replace

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from streams.rollout import Rollout
from streams.wire import (
    Activated,
    Arm,
    DefinitionChanged,
    ExperimentStarted,
    ExperimentStopped,
    Judged,
    ModelEvent,
    Pinned,
    Registered,
    Routing,
    StageChanged,
)


def registered(version: int) -> Registered:
    """Versions 1 to 3 are of definition 1, the others of definition 2."""
    definition = 1 if version < 4 else 2
    return Registered(version, f"c{version}", "file:///m", "00", {}, {}, None, definition)


BEGUN = Rollout().apply_all(
    [*map(registered, (1, 2, 3, 4)), StageChanged(1, "live", "x", change=1)]
)

VERSIONS = st.integers(0, 5)
SHARES = st.one_of(st.none(), st.floats(allow_nan=True), st.sampled_from([0.01, 0.1, 0.5, 1.0]))
CHANGES = st.integers(0, 12)
ARMS = st.lists(
    st.builds(Arm, VERSIONS, st.just("experiment"), SHARES.filter(lambda s: s is not None)),
    max_size=3,
).map(tuple)
EVENTS: st.SearchStrategy[ModelEvent] = st.one_of(
    st.builds(
        StageChanged,
        VERSIONS,
        st.sampled_from(["shadow", "canary", "experiment", "live", "retired", "rolled_back"]),
        st.just("x"),
        since=st.sampled_from([None, {"0": 5}]),
        share=SHARES,
        salt=st.sampled_from(["", "s", "t"]),
        instead=st.sampled_from([None, 0, 1, 2, 3, 4, 5]),
        by=st.sampled_from(["", "operator", "trainer", "policy"]),
        change=CHANGES,
    ),
    st.builds(
        Pinned, st.integers(1, 2), st.sampled_from([None, 0, 1, 2, 4, 9]), st.just("x"), CHANGES
    ),
    st.builds(
        ExperimentStarted, st.sampled_from("ab"), st.integers(1, 2), VERSIONS, ARMS, st.just("s"),
        st.just({}), st.just("x"), CHANGES,
    ),
    st.builds(ExperimentStopped, st.sampled_from("ab"), st.just("x"), st.none(), CHANGES),
    st.builds(DefinitionChanged, st.integers(1, 3), st.integers(1, 2), st.just(1),
              st.sampled_from([0, 1, 4]), st.just(2), st.just("x")),
    st.builds(Activated, VERSIONS, st.just("live"), st.just("w"),
              st.sampled_from([{"0": 1}, {"x": 1}, {}])),
    st.builds(Judged, VERSIONS, st.just("canary"), st.just("hold"), st.just("x"), st.just({})),
)  # fmt: skip


def check(state: Rollout) -> None:
    """Raise AssertionError where the state is none that can be."""
    for definition, routing in state.routings.items():
        versions = [arm.version for arm in routing.arms]
        assert routing.live not in versions
        assert len(set(versions)) == len(versions)
        assert all(state.versions[v].definition == definition for v in versions)
        assert all(0 < arm.share <= 1 for arm in routing.arms)
        assert sum(arm.share for arm in routing.arms) <= 1 + 1e-9
        assert all(state.stages[arm.version] == arm.stage for arm in routing.arms)
        assert not routing.arms or routing.salt
        kinds = {arm.stage for arm in routing.arms}
        running = state.experiment(definition)
        assert kinds in (set(), {"canary"}, {"experiment"})
        assert (running is not None) == (kinds == {"experiment"})
        assert len(versions) <= 1 or running is not None
        if routing.live in state.versions:
            assert state.stages[routing.live] == "live"
        if definition in state.pinned:
            assert state.pinned[definition] == routing.live
    answering = {r.live for r in state.routings.values()}
    answering |= {arm.version for r in state.routings.values() for arm in r.arms}
    for version, stage in state.stages.items():
        if stage in ("live", "canary", "experiment"):
            assert version in answering
        if stage == "shadow":
            assert version in state.shadows
    for versions_before in state.before.values():
        rolled_back = {v for v, stage in state.stages.items() if stage == "rolled_back"}
        assert not rolled_back & set(versions_before)


@given(st.lists(EVENTS, max_size=30))
def test_whatever_comes_the_state_is_one_that_can_be(events: list[ModelEvent]) -> None:
    state = BEGUN
    for event in events:
        after = state.apply(event)
        check(after)
        assert after.change in (state.change, state.change + 1)
        state = after


@given(st.lists(EVENTS, max_size=30), EVENTS)
def test_a_stale_change_does_nothing(events: list[ModelEvent], late: ModelEvent) -> None:
    state = BEGUN.apply_all(events)
    if isinstance(late, StageChanged | Pinned | ExperimentStarted | ExperimentStopped):
        for number in (state.change, state.change + 2):
            if number:
                assert state.apply(msgspec.structs.replace(late, change=number)) is state


@given(st.lists(EVENTS, max_size=30))
def test_who_is_live_stays_while_it_is_pinned(events: list[ModelEvent]) -> None:
    state = BEGUN.apply(Pinned(1, 1, "hold", change=2))
    for event in events:
        is_operator = isinstance(event, StageChanged) and event.by == "operator"
        if not (is_operator or isinstance(event, Pinned | DefinitionChanged)):
            state = state.apply(event)
            assert state.routing(1).live == 1
            assert state.canary(1) is None


@given(st.lists(EVENTS, max_size=30))
def test_a_change_that_can_not_be_leaves_the_number_for_the_next(events: list[ModelEvent]) -> None:
    state = BEGUN.apply_all(events)
    bad = StageChanged(99, "live", "typed by hand", change=state.next_change)
    assert state.apply(bad) is state
    good = StageChanged(3, "live", "x", by="operator", change=state.next_change)
    assert state.apply_all([bad, good]).routing(1) == Routing(3)


def stage(version: int, stage: str, state: Rollout, **more: object) -> Rollout:
    event = StageChanged(version, stage, "x", change=state.next_change, **more)  # type: ignore[arg-type]
    return state.apply(event)


def test_a_canary_grows_with_its_salt_and_goes_live() -> None:
    state = stage(2, "canary", BEGUN, share=0.01)
    first = state.routing(1)
    assert first == Routing(1, "canary-2-2", (Arm(2, "canary", 0.01),))
    state = stage(2, "canary", state, share=0.1, salt="another")
    assert state.routing(1) == Routing(1, "canary-2-2", (Arm(2, "canary", 0.1),))
    state = stage(2, "live", state)
    assert state.routing(1) == Routing(2)
    assert state.before == {1: (1,)}
    assert state.stages == {1: "retired", 2: "live"}


def test_one_canary_at_a_time() -> None:
    state = stage(2, "canary", BEGUN, share=0.01)
    assert stage(3, "canary", state, share=0.1) is state
    assert stage(1, "canary", BEGUN, share=0.1) is BEGUN


def test_a_live_version_rolled_back_gives_way_to_what_is_named() -> None:
    state = stage(2, "live", BEGUN)
    assert stage(2, "rolled_back", state) is state, "nobody is named in its place"
    back = stage(2, "rolled_back", state, instead=1)
    assert back.routing(1) == Routing(1)
    assert back.stages == {1: "live", 2: "rolled_back"}
    assert back.before == {1: ()}
    assert stage(2, "rolled_back", state, instead=4) is state, "it is of another definition"
    assert stage(2, "rolled_back", state, instead=0).routing(1) == Routing(0)


def test_an_experiment_excludes_a_canary_and_ends_with_a_new_live_version() -> None:
    arms = (Arm(2, "experiment", 0.5),)
    started = ExperimentStarted("e", 1, 1, arms, "salt", {}, "x", 2)
    state = BEGUN.apply(started)
    assert state.routing(1) == Routing(1, "salt", arms)
    assert stage(3, "canary", state, share=0.1) is state
    assert stage(2, "canary", state, share=0.1) is state
    after = stage(3, "live", state)
    assert after.experiment(1) is None
    assert after.stages == {1: "retired", 2: "retired", 3: "live"}


def test_a_canary_taken_back_is_in_shadow_as_before() -> None:
    state = stage(2, "shadow", BEGUN, since={"0": 7})
    state = stage(2, "canary", state, share=0.1)
    assert state.shadows == {2: {"0": 7}}
    assert stage(3, "live", state).stages[2] == "shadow"
    gone = stage(2, "rolled_back", state)
    assert (gone.routing(1), gone.shadows) == (Routing(1), {})


def test_what_the_workers_say_is_in_force_by_partition() -> None:
    canary = Routing(1, "s", (Arm(2, "canary", 0.1),))
    said = Activated(1, "live", "w0", {"0": 5, "1": 6, "bad": 7}, canary, 1)
    state = BEGUN.apply_all([said, Activated(1, "live", "w1", {"1": 9}, Routing(1), 1)])
    assert state.in_force == {(1, 0): canary, (1, 1): Routing(1)}
    assert state.activated[2, "canary", "w0"] == said
    assert replace(state, in_force={}).in_force == {}
