"""Which definition answers which event, as a fold over the control log; no broker."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.cutover import Cutovers, Span
from streams.rollout import Rollout
from streams.wire import (
    DefinitionActivated,
    DefinitionChanged,
    ModelEvent,
    Registered,
    StageChanged,
    model_event_key,
)

PARTITIONS = 2


def order(
    change: int, definition: int, before: int, *, together: bool = False, model: int = 0
) -> DefinitionChanged:
    return DefinitionChanged(change, definition, before, model, PARTITIONS, "x", together)


def said(change: int, partition: int, **positions: int) -> DefinitionActivated:
    at = {name.removeprefix("p"): offset for name, offset in positions.items()}
    return DefinitionActivated(change, 0, partition, at, "w0")


def folded(*events: ModelEvent) -> Cutovers:
    return Rollout().apply_all(events).cutovers


def test_without_orders_the_first_answers_everything() -> None:
    cutovers = folded()
    assert cutovers.definition is None
    assert cutovers.spans(0, 7) == [Span(0, None, 7)]
    assert cutovers.due(0) is None
    assert not cutovers.held(0)


def test_each_partition_switches_where_its_holder_says() -> None:
    cutovers = folded(order(1, 2, 1), said(1, 0, p0=40))
    assert cutovers.definition == 2
    assert cutovers.spans(0, 1) == [Span(0, 40, 1), Span(40, None, 2)]
    assert cutovers.spans(1, 1) == [Span(0, None, 1)]
    assert (cutovers.current(0, 1), cutovers.current(1, 1)) == (2, 1)
    assert cutovers.due(0) is None
    assert cutovers.due(1) == order(1, 2, 1)
    assert cutovers.undecided() == [1]
    assert cutovers.ended(0, 1) == {1: 40}


def test_together_nothing_switches_before_the_last_has_spoken() -> None:
    events: list[ModelEvent] = [order(1, 2, 1, together=True), said(1, 0, p0=40, p1=10)]
    waiting = folded(*events)
    assert waiting.held(0)
    assert not waiting.held(1)
    assert waiting.spans(0, 1) == [Span(0, None, 1)]
    cutovers = folded(*events, said(1, 1, p0=35, p1=12))
    assert not cutovers.held(0)
    assert [cutovers.spans(p, 1)[1].first for p in range(2)] == [40, 12]


def test_only_the_first_answer_and_the_order_that_follows_count() -> None:
    cutovers = folded(
        order(1, 2, 1), order(1, 3, 1), order(3, 3, 2), said(1, 0, p0=4), said(1, 0, p0=9)
    )
    assert [o.definition for o in cutovers.orders] == [2]
    assert cutovers.spans(0, 1) == [Span(0, 4, 1), Span(4, None, 2)]


def test_a_turn_that_is_overtaken_at_its_first_offset_answers_nothing() -> None:
    events: list[ModelEvent] = [order(1, 2, 1), said(1, 0, p0=100)]
    events += [order(2, 1, 2), said(2, 0, p0=30)]
    assert folded(*events).spans(0, 1) == [Span(0, None, 1)]


def test_the_log_says_what_was_first_whatever_is_declared_now() -> None:
    cutovers = folded(order(1, 2, 1), said(1, 0, p0=4))
    assert cutovers.spans(0, 2) == [Span(0, 4, 1), Span(4, None, 2)]
    assert cutovers.current(1, 2) == 1


def test_live_is_the_version_of_the_definition_ordered_last() -> None:
    models = [Registered(v, f"c{v}", "", "", {}, {}, None, d) for v, d in ((1, 1), (2, 2), (3, 1))]
    state = Rollout().apply_all([*models, StageChanged(1, "live", ""), order(1, 2, 1, model=2)])
    assert state.live == 2
    late = state.apply(StageChanged(3, "live", "trained before the order came"))
    assert (late.live, late.lives) == (2, {1: 3, 2: 2})
    back = late.apply_all([order(2, 1, 2, model=3)])
    assert back.live == 3


def test_of_two_models_of_one_number_the_first_has_it() -> None:
    one, two = (Registered(5, name, "", "", {}, {}, None) for name in ("a", "b"))
    assert Rollout().apply_all([one, two]).versions == {5: one}
    assert model_event_key(one) != model_event_key(two), "compaction must not drop the first"


EVENTS: st.SearchStrategy[ModelEvent] = st.one_of(
    st.builds(
        DefinitionChanged, st.integers(1, 4), st.integers(1, 3), st.just(1), st.just(0),
        st.just(PARTITIONS), st.just("x"), st.booleans(),
    ),
    st.builds(
        DefinitionActivated, st.integers(1, 4), st.just(0), st.integers(0, 1),
        st.dictionaries(st.sampled_from("01"), st.integers(0, 50)), st.just("w"),
    ),
)  # fmt: skip


@given(st.lists(EVENTS, max_size=25), st.integers(0, 1))
def test_spans_have_no_gaps_and_agree_with_single_offsets(
    events: list[ModelEvent], partition: int
) -> None:
    cutovers = folded(*events)
    spans = cutovers.spans(partition, 1)
    assert spans[0].first == 0
    assert spans[-1].end is None
    for one, two in pairwise(spans):
        assert one.end == two.first > one.first
        assert one.definition != two.definition
    offsets = np.arange(60)
    answering = cutovers.definitions_at(np.full(60, partition), offsets, 1)
    for span in spans:
        inside = (offsets >= span.first) & (offsets < (span.end or 60))
        assert (answering[inside] == span.definition).all()


@given(st.lists(EVENTS, max_size=25, unique_by=model_event_key), st.integers(0, 1))
def test_what_an_order_came_to_never_changes(events: list[ModelEvent], partition: int) -> None:
    """Keys are unique, so compaction keeps all; and a decided offset stays what it is."""
    decided: dict[int, int] = {}
    for n in range(len(events) + 1):
        cutovers = folded(*events[:n])
        since = {o.change: cutovers.since(o, partition) for o in cutovers.orders}
        assert decided.items() <= since.items()
        decided = {change: at for change, at in since.items() if at is not None}


@pytest.mark.parametrize("partition", [0, 1])
def test_holders_are_asked_one_order_after_the_other(partition: int) -> None:
    events: list[ModelEvent] = [order(1, 2, 1), order(2, 1, 2)]
    for change in (1, 2):
        due = folded(*events).due(partition)
        assert due is not None
        assert due.change == change
        events.append(said(change, partition))
    assert folded(*events).due(partition) is None
