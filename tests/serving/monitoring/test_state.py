"""The monitor's fold does not depend on how its inputs are interleaved or cut."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from random import Random
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.records import FeatureRows
from serving.monitoring.judging import LiveModel
from serving.monitoring.label_records import LabelRows
from serving.monitoring.state import Closing, MonitorState
from serving.spec import DataDrift, Performance
from tests.serving.monitored import DAY, DEFINITION, HOUR, START, feature_rows, label_rows, part_of
from training.networks.tasks import MultiClass, Regression, Task
from training.reference import Reference
from training.spec import Training

MONITORS = (DataDrift(window="2d", minimum=5), Performance(window="2d", minimum=5))
EVENTS = 40
REFERENCE = Reference.from_rows(
    [feature_rows(0, [START] * 50, list(np.linspace(0, 1, 50)))], DEFINITION
)
LIVE = LiveModel(1, REFERENCE.expected, {"log_loss": 0.6}, REFERENCE)

Step = Callable[[MonitorState], object]


def _new() -> MonitorState:
    state = MonitorState(MONITORS, Training(first_after="1d"), ("user",), DAY, HOUR)
    state.use(LIVE)
    return state


def _rows(partition: int, seed: int) -> FeatureRows:
    rng = np.random.default_rng(seed + partition)
    times = START + rng.integers(0, 3 * DAY, EVENTS)
    return feature_rows(partition, times.tolist(), rng.normal(0.5, 1, EVENTS).tolist())


def _cuts(n: int, random: Random) -> list[slice]:
    edges = sorted({0, n, *(random.randrange(n) for _ in range(4))})
    return [slice(a, b) for a, b in pairwise(edges)]


def _inputs(seed: int, random: Random) -> list[list[Step]]:
    """Return the three inputs of each partition, each a list of batches in log order."""
    streams: list[list[Step]] = []
    for partition in (0, 1):
        rows = _rows(partition, seed)
        scores = np.linspace(0.1, 0.9, EVENTS)
        labels = label_rows(
            rows.event_ids,
            [float(i % 3 == 0) for i in range(EVENTS)],
            (rows.event_times_ms + HOUR).tolist(),
        )
        streams.append([_add_features(part_of(rows, c)) for c in _cuts(EVENTS, random)])
        streams.append([_add_answers(rows, scores, c) for c in _cuts(EVENTS, random)])
        streams.append([_add_labels(labels, c, partition) for c in _cuts(EVENTS, random)])
    return streams


def _add_features(rows: FeatureRows) -> Step:
    return lambda state: state.add_features(rows, rows.source_offsets)


def _add_answers(rows: FeatureRows, scores: "np.ndarray", c: slice) -> Step:
    versions = np.array([1] * EVENTS)[c]
    return lambda state: state.add_predictions(
        rows.event_ids[c], scores[c], versions, rows.event_times_ms[c]
    )


def _add_labels(labels: LabelRows, c: slice, partition: int) -> Step:
    part = LabelRows(
        labels.event_ids[c], labels.labels[c], labels.times_ms[c], labels.offsets[c], labels.rows[c]
    )
    return lambda state: state.add_labels(part, partition)


def _interleaved(streams: Sequence[list[Step]], random: Random) -> list[Step]:
    left = [list(stream) for stream in streams]
    steps: list[Step] = []
    while any(left):
        steps.append(random.choice([stream for stream in left if stream]).pop(0))
    return steps


def _close_all(state: MonitorState) -> list[bytes]:
    return [msgspec.json.encode(_plain(state.close(LIVE))) for _ in range(4)]


def _plain(closing: Closing) -> dict[str, Any]:
    return {
        "findings": closing.findings,
        "told": closing.told,
        "decision": [closing.decision.reason, closing.decision.action],
    }


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 5), st.randoms(use_true_random=False), st.booleans())
def test_interleaving_cuts_and_restarts_change_nothing(
    seed: int, random: Random, restart: bool
) -> None:
    reference = _new()
    for stream in _inputs(seed, Random(0)):
        for step in stream:
            step(reference)
    state = _new()
    for step in _interleaved(_inputs(seed, random), random):
        step(state)
        if restart and random.random() < 0.2:
            state = _restarted(state)

    assert _close_all(state) == _close_all(reference)


def _restarted(state: MonitorState) -> MonitorState:
    content, arrays = state.to_snapshot()
    again = _new()
    again.load_snapshot(msgspec.json.decode(msgspec.json.encode(content)), arrays)
    return again


def test_the_findings_are_not_empty() -> None:
    state = _new()
    for stream in _inputs(1, Random(0)):
        for step in stream:
            step(state)

    closings = [state.close(LIVE) for _ in range(4)]

    assert {f.metric.metric for f in closings[1].findings} >= {"psi", "log_loss", "brier"}
    assert any(f.cause for closing in closings for f in closing.findings)
    assert closings[0].decision.reason == "schedule"


def test_a_change_is_suspected_then_confirmed_and_told_with_its_onset() -> None:
    state = _new()
    times = [START + day * DAY + i * 1_000 for day in range(5) for i in range(50)]
    distances = [float(x) + (9 if t >= START + 2 * DAY else 0) for t, x in zip(
        times, np.tile(np.linspace(0, 1, 50), 5), strict=True
    )]  # fmt: skip
    rows = feature_rows(0, times, distances)
    state.add_features(rows, rows.source_offsets + 7)

    told = [state.close(LIVE).told for _ in range(5)]

    states = [[(t.state, t.lead.metric.feature) for t in each] for each in told]
    assert states[2:4] == [[("suspected", "distance")], [("confirmed", "distance")]]
    assert not states[4]
    onset = told[2][0].lead.onset
    assert onset is not None
    assert (onset.time_ms, onset.partition, onset.offset) == (START + 2 * DAY, 0, 107)


def test_counting_again_gives_what_counting_along_would_have_given() -> None:
    along, again = _new(), _new()
    other = Reference.from_rows([_rows(0, 9)], DEFINITION)
    again.use(LiveModel(2, other.expected, {}, other))
    rows = [_rows(0, 1), _rows(1, 1)]
    for part in rows:
        along.add_features(part, part.source_offsets + 100)
        again.add_features(part, part.source_offsets + 100)

    first = again.recount_from()
    assert first == {0: 100, 1: 100}
    again.recount(LIVE, rows)

    counted, wanted = again.watches[0].snapshot(), along.watches[0].snapshot()
    assert counted[0] == wanted[0] != []
    for name, array in wanted[1].items():
        assert np.array_equal(counted[1][name], array)


def test_what_no_window_reaches_any_more_is_forgotten() -> None:
    state = _new()
    for stream in _inputs(1, Random(0)):
        for step in stream:
            step(state)
    for _ in range(5):
        state.close(LIVE)

    late = feature_rows(0, [START], [0.5], first=999)
    state.add_features(late, late.source_offsets)

    assert state.watches[0].snapshot()[0] == []
    assert state.recount_from() == {}


@pytest.mark.parametrize(
    ("task", "rows", "labels", "figure", "value"),
    [
        (MultiClass(("a", "b", "c")), [[0.2, 0.3, 0.5], [0.8, 0.1, 0.1]], [2, 1], "accuracy", 0.5),
        (Regression(), [[10.0, 2.0], [0.0, 1.0]], [12.0, 2.5], "within_90", 0.5),
    ],
)
def test_other_tasks_are_judged_by_their_own_scores(
    task: Task, rows: list[list[float]], labels: list[float], figure: str, value: float
) -> None:
    def new() -> MonitorState:
        return MonitorState(MONITORS, Training(first_after="1d"), ("user",), DAY, HOUR, task)

    state, n = new(), 40
    numbers = [i % 2 for i in range(n)]
    events = feature_rows(0, [START] * n, [0.5] * n)
    state.add_features(events, events.source_offsets)
    told = np.array([rows[i] for i in numbers])
    told[3] = np.nan  # one that nobody can score: no figure counts it
    state.add_predictions(events.event_ids, told, np.ones(n, np.int64), events.event_times_ms)
    content, arrays = state.to_snapshot()
    again = new()
    again.load_snapshot(msgspec.json.decode(msgspec.json.encode(content)), arrays)
    targets = [labels[i] for i in numbers]
    for each in (state, again):
        each.add_labels(label_rows(events.event_ids, targets, [START] * n), 0)
        metrics = {f.metric.metric: f.metric for f in each.close(LIVE).findings}
        assert metrics["log_loss"].n == n - 1
        assert abs(metrics[figure].value - value) < 0.02
