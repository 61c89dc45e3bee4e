"""Which offsets an experiment answered, from the control log alone."""

import numpy as np

from serving.experiments.spans import OPEN_END, spans_of
from streams.wire import (
    Activated,
    Arm,
    ExperimentStarted,
    ModelEvent,
    Positions,
    Registered,
    Routing,
    Stage,
)

ARMS = (Arm(2, "experiment", 0.5),)
STARTED = ExperimentStarted("a", 1, 1, ARMS, "salt", {}, "a test")
ON, OFF = Routing(1, "salt", ARMS), Routing(1)
REGISTERED = [Registered(v, f"c{v}", "memory", "0", {}, {}, None, 1 + v // 5) for v in (1, 2, 5)]


def said(positions: Positions, routing: Routing | None, stage: Stage = "live") -> Activated:
    return Activated(1 if routing is None else routing.live, stage, "w", positions, routing)


def spans(*events: ModelEvent) -> dict[int, list[tuple[int, int]]]:
    return dict(spans_of([*REGISTERED, *events], STARTED).of)


def test_from_the_first_that_says_so_to_the_next_that_says_otherwise() -> None:
    log = [said({"0": 0, "1": 0}, OFF), said({"0": 10}, ON), said({"1": 7}, ON)]
    assert spans(*log) == {0: [(10, OPEN_END)], 1: [(7, OPEN_END)]}
    assert spans(*log, said({"0": 25}, OFF)) == {0: [(10, 25)], 1: [(7, OPEN_END)]}


def test_what_is_said_again_and_earlier_wins() -> None:
    """A worker that died before its commit is followed by one that begins before it."""
    assert spans(said({"0": 10}, ON), said({"0": 20}, ON)) == {0: [(10, OPEN_END)]}
    assert spans(said({"0": 10}, ON), said({"0": 20}, OFF), said({"0": 15}, ON)) == {
        0: [(10, OPEN_END)]
    }
    assert spans(said({"0": 10}, ON), said({"0": 8}, OFF)) == {}


def test_there_may_be_gaps() -> None:
    found = spans_of(
        [*REGISTERED, said({"0": 5}, ON), said({"0": 8}, OFF), said({"0": 12}, ON)], STARTED
    )
    assert found.of == {0: [(5, 8), (12, OPEN_END)]}
    offsets = np.array([4, 5, 7, 8, 11, 12, 12])
    partitions = np.array([0, 0, 0, 0, 0, 0, 1])
    within = found.within(partitions, offsets)
    assert np.flatnonzero(within).tolist() == [1, 2, 5]
    assert found.before(partitions, offsets).tolist() == [True] + [False] * 6
    assert found.open_in() == [0]


def test_others_do_not_count() -> None:
    """Shadows, records without a routing, other experiments, other definitions."""
    other = Routing(5, "salt", ARMS)
    anew = Routing(1, "another", ARMS)
    assert spans(said({"0": 1}, ON, "shadow"), said({"1": 1}, None), said({"2": 1}, anew)) == {}
    assert spans(said({"0": 3}, ON), said({"0": 9}, other)) == {0: [(3, OPEN_END)]}
