"""All five kinds of monitor: what a closing tells is a function of the records before its end.

However far the reading of some input has run ahead, wherever batches are cut and whenever the
state is saved and read again, each closing gives the same bytes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

import msgspec
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from features.records import FeatureRows
from serving.monitoring.judging import LiveModel
from serving.monitoring.label_records import LabelRows
from serving.monitoring.state import Closing, MonitorState
from serving.spec import ConceptDrift, DataDrift, Fairness, Performance, PredictionDrift
from tests.serving.monitored import DAY, DEFINITION, HOUR, START, feature_rows, label_rows, part_of
from training.answers import Answers
from training.networks.tasks import Binary
from training.reference import Reference
from training.spec import Training
from training.validation_scores import calibration_sums, validation_scores

MONITORS = (
    DataDrift(window="2d", minimum=20, by_group=True),
    PredictionDrift(window="2d", minimum=20),
    ConceptDrift(window="2d", minimum=20),
    Performance(window="2d", minimum=20),
    Fairness(window="2d", minimum=20),
)
PARTITIONS = (0, 1)
DAYS, PER_DAY, CHANGE = 7, 200, 4
SWITCH = 3
"""The closing after which version 2 is live."""


@dataclass(frozen=True)
class Stream:
    """An input of one partition: records in log order, and how a batch of them is taken."""

    times_ms: "np.ndarray"
    take: Callable[[MonitorState, slice], object]


def _live(version: int) -> LiveModel:
    rng = np.random.default_rng(version)
    scores = rng.beta(2, 4, 400)
    labels = (rng.random(400) < scores).astype(np.float64)
    rows = feature_rows(0, [START] * 400, rng.normal(0.5, 1, 400).tolist())
    reference = Reference.from_rows([rows], DEFINITION).with_scores(
        validation_scores(Binary(), Answers(scores)),
        calibration_sums(Binary(), Answers(scores), labels),
    )
    loss = float(np.mean(-np.log(np.where(labels == 1, scores, 1 - scores))))
    return LiveModel(version, reference.expected, {"log_loss": loss}, reference)


LIVE = {1: _live(1), 2: _live(2)}


def _new() -> MonitorState:
    return MonitorState(MONITORS, Training(first_after="1d"), ("user",), DAY, HOUR)


@dataclass(frozen=True)
class Partition:
    """What stands in a partition of the three topics."""

    rows: FeatureRows
    inputs: tuple[Stream, Stream, Stream]


def _partition(number: int, seed: int) -> Partition:
    """From day CHANGE on everything is other. Some labels come days late, some twice, some before
    their event; one event has none, and one label no event."""
    rng, n = np.random.default_rng([seed, number]), DAYS * PER_DAY
    times = START + np.sort(rng.integers(0, DAYS * DAY, n))
    changed = times >= START + CHANGE * DAY
    distances = rng.normal(0.5, 1, n) + 4 * changed
    rows = feature_rows(number, times.tolist(), distances.tolist())
    scores = np.clip(rng.beta(2, 4, n) + 0.2 * changed, 0.01, 0.99)
    versions = np.where(times < START + SWITCH * DAY, 1, 2)
    chance = np.where(changed, 1 - scores, scores)
    wait = rng.choice([HOUR, 2 * DAY, -HOUR, -2 * DAY], n, p=[0.78, 0.15, 0.05, 0.02])
    truth = (rng.random(n) < chance).astype(np.float64)
    chosen = np.concatenate([np.arange(1, n), rng.integers(1, n, 5)])
    chosen = chosen[np.argsort((times + wait)[chosen], kind="stable")]
    ids = [rows.event_ids[i] for i in chosen.tolist()]
    ids[20] = f"nobody-{number}"
    labels = label_rows(ids, truth[chosen].tolist(), (times + wait)[chosen].tolist())

    def take_features(state: MonitorState, part: slice) -> None:
        state.add_features(part_of(rows, part), rows.source_offsets[part] + 1)

    def take_answers(state: MonitorState, part: slice) -> None:
        state.add_predictions(rows.event_ids[part], scores[part], versions[part], times[part])

    def take_labels(state: MonitorState, part: slice) -> None:
        state.add_labels(_labels(labels, part), number)

    features, answers = Stream(times, take_features), Stream(times, take_answers)
    return Partition(rows, (features, answers, Stream(labels.times_ms, take_labels)))


def _labels(rows: LabelRows, part: slice) -> LabelRows:
    return LabelRows(
        rows.event_ids[part], rows.labels[part], rows.times_ms[part], rows.offsets[part],
        rows.rows[part],
    )  # fmt: skip


class Course:
    """A monitor that reads and closes: each closing's bytes are in ``told``."""

    def __init__(self, partitions: list[Partition]) -> None:
        self._rows = [partition.rows for partition in partitions]
        self.streams = [stream for partition in partitions for stream in partition.inputs]
        self._at = [0] * len(self.streams)
        self.state, self.told, self._live = _new(), list[bytes](), LIVE[1]
        self.state.use(self._live)

    def read(self, which: int, until: int) -> None:
        """Take the records of a stream up to a place."""
        begin = self._at[which]
        if until > begin:
            self.streams[which].take(self.state, slice(begin, until))
            self._at[which] = until

    def read_some(self, random: Random) -> None:
        """Read a piece of some stream, however far that one is ahead."""
        which = random.randrange(len(self.streams))
        left = len(self.streams[which].times_ms) - self._at[which]
        self.read(which, self._at[which] + random.randint(0, min(left, 2 * PER_DAY)))

    def close(self) -> None:
        """Read what lies before the next end and is not read yet, and close."""
        end_ms = START + (len(self.told) + 1) * DAY
        for which, stream in enumerate(self.streams):
            self.read(which, int(np.searchsorted(stream.times_ms, end_ms)))
        if len(self.told) == SWITCH:
            self._live = LIVE[2]
            read = [
                part_of(rows, slice(0, at))
                for rows, at in zip(self._rows, self._at[::3], strict=True)
            ]
            self.state.recount(self._live, read)
        self.told.append(_bytes(self.state.close(self._live)))

    def restart(self) -> None:
        """Save the state and read it again."""
        content, arrays = self.state.to_snapshot()
        self.state = _new()
        self.state.load_snapshot(msgspec.json.decode(msgspec.json.encode(content)), arrays)
        self.state.use(self._live)


def _bytes(closing: Closing) -> bytes:
    content: dict[str, Any] = {
        "findings": closing.findings,
        "told": closing.told,
        "decision": [closing.decision.reason, closing.decision.action],
        "orphans": [[o.event_id, o.partition, o.offset] for o in closing.orphans],
    }
    return msgspec.json.encode(content)


def _straight(seed: int) -> Course:
    course = Course([_partition(p, seed) for p in PARTITIONS])
    for _ in range(DAYS):
        course.close()
    return course


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 3), st.randoms(use_true_random=False), st.booleans())
def test_how_far_reading_has_run_ahead_and_restarts_change_nothing(
    seed: int, random: Random, restart: bool
) -> None:
    course = Course([_partition(p, seed) for p in PARTITIONS])
    for _ in range(DAYS):
        for _ in range(random.randint(0, 12)):
            course.read_some(random)
            if restart and random.random() < 0.2:
                course.restart()
        course.close()

    for day, (told, wanted) in enumerate(zip(course.told, _straight(seed).told, strict=True)):
        assert _told(told) == _told(wanted), f"closing {day}"
        assert told == wanted


def _told(content: bytes) -> list[str]:
    """Return each item by itself, so that a difference is short."""
    decoded = msgspec.json.decode(content)
    return [f"{name}: {each}" for name, all_of in decoded.items() for each in all_of]


def test_every_monitor_has_figures_and_the_change_is_told() -> None:
    closings = [msgspec.json.decode(told) for told in _straight(1).told]
    findings = [finding for closing in closings for finding in closing["findings"]]
    kinds = {finding["kind"] for finding in findings}
    assert kinds >= {"data_drift", "prediction_drift", "concept_drift", "performance", "fairness"}
    names = {finding["metric"]["metric"] for finding in findings}
    assert names >= {"label_overdue_share", "estimated_log_loss", "calibration_shift"}
    assert any(told["state"] == "confirmed" for told in closings[CHANGE + 1]["told"])
    assert [at for each in closings for at in each["orphans"]]
