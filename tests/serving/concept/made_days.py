"""Days of answers and labels of a model that is right until the world changes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from serving.concept.watch import ConceptWatch
from serving.monitoring.judging import LiveModel
from serving.monitoring.matching import Matches
from serving.monitoring.watch import Answered
from serving.spec import ConceptDrift
from training.answers import Answers
from training.networks.tasks import Binary
from training.reference import Reference
from training.scores import log_loss
from training.validation_scores import calibration_sums

DAY = 86_400_000
HOUR = 3_600_000
PER_DAY = 1_000
DECLARED = ConceptDrift(window="3d")


@dataclass(frozen=True)
class Days:
    """Answers and labels, sorted by event."""

    scores: np.ndarray[tuple[int], np.dtype[np.float64]]
    labels: np.ndarray[tuple[int], np.dtype[np.float64]]
    events_ms: np.ndarray[tuple[int], np.dtype[np.int64]]
    delays_ms: np.ndarray[tuple[int], np.dtype[np.int64]]
    versions: np.ndarray[tuple[int], np.dtype[np.int64]]

    @property
    def labels_ms(self) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """When labels come."""
        return self.events_ms + self.delays_ms


def made_days(
    days: int, change: int | None = None, up: float = 0.25, seed: int = 0, version: int = 1
) -> Days:
    """Return ``days`` of a thousand events; from day ``change`` on a label is 1 with ``up`` more
    probability than the score says. Labels come about an hour after their events."""
    rng = np.random.default_rng(seed)
    n = days * PER_DAY
    scores = rng.beta(2, 8, n)
    events = np.sort(rng.integers(0, days * DAY, n))
    true = scores if change is None else scores + up * (events >= change * DAY)
    labels = (rng.random(n) < true).astype(np.float64)
    delays = (rng.exponential(HOUR, n) + 60_000).astype(np.int64)
    return Days(scores, labels, events, delays, np.full(n, version))


def live_model(version: int = 1) -> LiveModel:
    """Return what the model's validation said."""
    given = made_days(10, seed=99)
    sums = calibration_sums(Binary(), Answers(given.scores), given.labels)
    reference = Reference({}, {}, {}, calibration=sums)
    loss = log_loss(given.scores, given.labels)
    return LiveModel(version, {}, {"log_loss": loss}, reference)


def watch(declared: ConceptDrift = DECLARED) -> ConceptWatch:
    """Return a new watch, closing days."""
    return ConceptWatch(declared, Binary(), DAY, level=0.01)


def feed(to: ConceptWatch, given: Days, day: int, pieces: int = 1, seed: int = 0) -> None:
    """Add what came on a day, answers and labels, in another order for each seed."""
    rng = np.random.default_rng(seed)
    begin, end = day * DAY, (day + 1) * DAY
    now = np.flatnonzero((given.events_ms >= begin) & (given.events_ms < end))
    to.add_answers(Answered(given.scores[now], given.versions[now], given.events_ms[now]))
    due = np.flatnonzero((given.labels_ms >= begin) & (given.labels_ms < end))
    for piece in np.array_split(rng.permutation(due), pieces):
        to.add_matches(
            Matches(
                given.scores[piece], given.labels[piece], given.labels_ms[piece],
                given.versions[piece], np.zeros((len(piece), 0), np.int64),
                given.events_ms[piece], piece % 2, piece // 2,
            )
        )  # fmt: skip
