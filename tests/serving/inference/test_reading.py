"""What is read for a partition, and which rows are answered; no broker."""

from dataclasses import replace

import numpy as np
import pytest

from serving.inference.reading import Reading, sources_of
from serving.inference.stretches import Place, Position
from streams.errors import ConfigurationError
from streams.rollout import Rollout
from streams.topics import Topics
from streams.wire import DefinitionActivated, DefinitionChanged, ModelEvent, Positions
from tests.serving.feature_stream import DEFINITION, EVENTS, REKEYED, V2, rows

TOPICS = Topics("p")
ONE, TWO, SPREAD = (f"p.features.v{version}" for version in (1, 2, 3))


def reading(*events: ModelEvent) -> Reading:
    """Return the plan; where a source offset stands is ten times that far in the topic."""
    sources = sources_of(TOPICS, (DEFINITION, V2, REKEYED), EVENTS, None)
    plan = Reading(sources, 1, lambda _, source, offset: max(offset, 10 * source))
    follow(plan, *events)
    return plan


def follow(plan: Reading, *events: ModelEvent) -> None:
    plan.follow(Rollout(cutovers=plan.cutovers).apply_all(events).cutovers)


def order(change: int, definition: int, before: int, together: bool = False) -> DefinitionChanged:
    return DefinitionChanged(change, definition, before, 0, 2, "x", together)


def said(change: int, partition: int, at: dict[str, int]) -> DefinitionActivated:
    return DefinitionActivated(change, 0, partition, at, "w")


def test_without_orders_the_first_is_read_from_where_the_group_stands() -> None:
    committed = {(ONE, 0): Position(7, 6), (TWO, 0): Position(3, 2)}
    assert reading().wanted([0, 1], committed, {}) == {
        (ONE, 0): Position(7, 6),
        (ONE, 1): Position(0),
    }


def test_a_definition_begins_at_its_first_offset_once_the_old_one_is_read() -> None:
    plan = reading(order(1, 2, 1), said(1, 0, {"0": 40}))
    committed = {(ONE, 0): Position(45, 39, 1)}
    assert plan.wanted([0], committed, {}) == {(TWO, 0): Position(400, 39)}
    # What it had committed before its last turn is behind what it may answer now.
    committed[TWO, 0] = Position(12, 11)
    assert plan.wanted([0], committed, {}) == {(TWO, 0): Position(400, 39)}
    committed[TWO, 0] = Position(430, 42, 1)
    assert plan.wanted([0], committed, {}) == {(TWO, 0): Position(430, 42, 1)}


def test_a_definition_that_ends_later_is_read_to_its_end_and_no_further() -> None:
    plan = reading(order(1, 2, 1), said(1, 0, {"0": 40}))
    at: dict[Place, Position] = {(ONE, 0): Position(31, 30)}
    assert plan.wanted([0], {}, at).keys() == {(ONE, 0), (TWO, 0)}
    assert plan.passed(1, rows(0, range(31, 38))) is None
    assert plan.wanted([0], {}, at).keys() == {(ONE, 0), (TWO, 0)}
    # 38 and 39 were dead letters: the first row behind the end tells that all is read.
    assert plan.passed(1, rows(0, [37, 42, 43])) == 1
    assert plan.wanted([0], {}, at).keys() == {(TWO, 0)}


def test_it_does_not_leap_over_what_an_earlier_turn_has_left() -> None:
    plan = reading(order(1, 2, 1), said(1, 0, {"0": 40}))
    follow(plan, order(2, 1, 2), said(2, 0, {"0": 90}))
    assert plan.wanted([0], {(ONE, 0): Position(20, 19)}, {})[ONE, 0] == Position(20, 19)
    assert plan.wanted([0], {(ONE, 0): Position(40, 39)}, {})[ONE, 0] == Position(900, 89)


def test_rows_are_answered_by_the_definition_of_their_event() -> None:
    plan = reading(order(1, 2, 1), said(1, 0, {"0": 40}))
    assert plan.answers(1, rows(0, [38, 39, 40])).tolist() == [True, True, False]
    assert plan.answers(2, rows(0, [38, 39, 40])).tolist() == [False, False, True]
    assert plan.answers(1, rows(1, [38, 99])).tolist() == [True, True], "not ordered there yet"


def test_a_partition_is_held_until_the_others_have_spoken() -> None:
    plan = reading(order(1, 3, 1, together=True), said(1, 0, {"0": 40, "1": 50}))
    assert plan.wanted([0], {}, {}) == {}
    assert plan.wanted([1], {}, {}).keys() == {(ONE, 1)}
    follow(plan, said(1, 1, {"0": 45, "1": 48}))
    assert plan.wanted([0], {}, {}).keys() == {(ONE, 0), (SPREAD, 0)}
    spread = replace(
        rows(0, range(4)),
        origin_partitions=np.array([0, 0, 1, 1]),
        origin_offsets=np.array([44, 45, 49, 50]),
    )
    assert plan.answers(3, spread).tolist() == [False, True, False, True]


def test_a_spread_definition_is_over_when_each_partition_was_seen_behind_its_end() -> None:
    ends = {"0": 40, "1": 50}
    plan = reading(
        order(1, 3, 1, together=True), said(1, 0, {}), said(1, 1, {}),
        order(2, 1, 3, together=True), said(2, 0, ends), said(2, 1, ends),
    )  # fmt: skip
    seen = replace(
        rows(0, range(2)), origin_partitions=np.array([0, 1]), origin_offsets=np.array([60, 30])
    )
    assert plan.passed(3, seen) is None
    assert plan.wanted([0], {}, {}).keys() == {(ONE, 0), (SPREAD, 0)}
    assert plan.passed(3, replace(seen, origin_offsets=np.array([61, 49]))) is None
    assert plan.wanted([0], {}, {}).keys() == {(ONE, 0)}


def test_a_definition_that_answers_has_to_be_declared() -> None:
    plan = reading(order(1, 9, 1), said(1, 0, {"0": 4}))
    with pytest.raises(ConfigurationError, match=r"partition 0 .*v9.*declares only v1, v2, v3"):
        plan.wanted([0], {}, {})


def test_in_shadow_each_definition_is_read_that_has_a_version_there() -> None:
    plan = reading()
    shadows: dict[int, list[Positions]] = {2: [{"0": 30}, {"0": 20, "1": 5}], 9: [{}]}
    assert plan.wanted_in_shadow([0, 1], {(ONE, 0): Position(8)}, {}, shadows) == {
        (ONE, 0): Position(8),
        (ONE, 1): Position(0),
        (TWO, 0): Position(20),
        (TWO, 1): Position(0),
    }
