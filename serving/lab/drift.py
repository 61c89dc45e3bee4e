"""``kappa lab drift``: each feature's PSI over time, against a period at the beginning.

The bins are those of a training's reference, the index and its critical value those of the
monitor; only the reference is a stretch of time here, not what a model was trained on.
"""

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from features.definition import Definition
from features.records import FeatureRows
from serving.drift.comparing import compare_all
from serving.drift.drift import ALPHA, Drift
from serving.lab.features import Rows
from serving.monitoring.windows import StepSums
from streams.errors import ConfigurationError
from training.lab import charts
from training.lab.report import Chart, Report, Table
from training.reference import Reference

STABLE, MAJOR = 0.1, 0.25
"""The classic bands: below the first nothing happened, from the second on a major shift."""

MINIMUM = 100
"""Fewer events than this in a window are not compared."""


@dataclass(frozen=True)
class Window:
    """A window [start, end) in milliseconds, and each feature's comparison; none where it has too
    few events."""

    start_ms: int
    end_ms: int
    n: int
    drifts: Sequence[Drift]


@dataclass
class Course:
    """What was found: the windows in order, and the reference before them."""

    begins_ms: int
    ends_ms: int
    n_reference: int
    features: Sequence[str]
    windows: list[Window] = field(default_factory=list)


def course_of(rows: Rows, definition: Definition, reference_ms: int, window_ms: int) -> Course:
    """Return the PSI of every window after the first ``reference_ms`` of the rows' event time.

    The rows are gone through twice: for the reference, and for the windows.

    Raises:
        ConfigurationError: there are no rows, or none behind the reference.
    """
    begins_ms, ends_ms, first = _first(rows, reference_ms)
    split_ms = begins_ms + reference_ms
    if ends_ms <= split_ms:
        raise ConfigurationError(
            f"the events reach from {_day(begins_ms)} to {_day(ends_ms)}, no further than the "
            f"reference of {reference_ms / 86_400_000:g} days: choose a shorter --reference"
        )
    pieces = [_chosen(piece, piece.event_times_ms < split_ms) for piece in first]
    times_ms = [t[t < split_ms] for t in (piece.event_times_ms for piece in first)]
    reference = Reference.from_rows(pieces, definition, times_ms)
    counts, events = _counts(rows, reference, split_ms, window_ms)
    course = Course(begins_ms, split_ms, sum(map(len, pieces)), list(reference.expected))
    for at in range(0, ends_ms - split_ms, window_ms):
        observed = {name: counts.window(name, at, at + window_ms) for name in course.features}
        known = {name: found for name, found in observed.items() if found is not None}
        drifts = compare_all(reference, known, window_ms) if events[at] >= MINIMUM else []
        start_ms = split_ms + at
        course.windows.append(Window(start_ms, start_ms + window_ms, events[at], drifts))
    return course


def report(course: Course, facts: dict[str, str], timezone: str) -> Report:
    """Return the report; days are told in ``timezone``."""
    zone = ZoneInfo(timezone)
    compared = [window for window in course.windows if window.drifts]
    labels = [_day(window.start_ms, zone) for window in compared]
    by_feature = {
        name: [next(d for d in window.drifts if d.feature == name) for window in compared]
        for name in course.features
    }
    summary = Table(
        f"PSI of {len(compared)} windows: how many are stable, moderate, major ({MAJOR:g} or more)",
        [
            "feature", "median", "largest", "in", "by chance", f"< {STABLE:g}", f"< {MAJOR:g}",
            "major", "beyond chance",
        ],
        [_summary_row(name, drifts, labels) for name, drifts in by_feature.items() if drifts],
    )  # fmt: skip
    every = Table(
        "PSI by window; bold where it is major and beyond chance",
        ["from", "events", *by_feature],
        [
            [label, f"{window.n:,}", *(_cell(drift) for drift in window.drifts)]
            for label, window in zip(labels, compared, strict=True)
        ],
    )
    values = np.array([[drift.psi for drift in found] for found in by_feature.values()])
    marks = np.array([[drift.alarming(MAJOR) for drift in found] for found in by_feature.values()])
    title = f"PSI against {_day(course.begins_ms, zone)} to {_day(course.ends_ms, zone)}"
    sides = (list(by_feature), labels)
    return Report(
        title="Data drift: the population stability index over time",
        facts={
            **facts,
            "reference": f"{_day(course.begins_ms, zone)} to {_day(course.ends_ms, zone)}, "
            f"{course.n_reference:,} events",
            "windows": f"{len(compared)} of {len(course.windows)} have {MINIMUM} events or more",
        },
        tables=[summary],
        details=[every],
        remarks=[
            "*By chance* is the median, over the windows, of what a feature's PSI exceeds with "
            f"probability {ALPHA:g} though nothing has changed: by the numbers of events on both "
            "sides, and by how much more than that the feature moved from window to window within "
            "the reference. What the reference is too short to show, as the seasons, is not in it."
        ],
        charts=[
            Chart(
                "drift.png",
                title,
                lambda path: charts.heat_map(
                    path, f"{title}; dots: major and beyond chance", sides, values, marks, "PSI"
                ),
            )
        ]
        if compared
        else [],
        figures=_figures(course),
    )


def _first(rows: Rows, reference_ms: int) -> tuple[int, int, list[FeatureRows]]:
    """Return the first event time, one behind the last, and the pieces that the reference is of."""
    begins_ms, ends_ms = sys.maxsize, 0
    kept: list[FeatureRows] = []
    for piece in rows():
        if len(piece):
            begins_ms = min(begins_ms, int(piece.event_times_ms.min()))
            ends_ms = max(ends_ms, int(piece.event_times_ms.max()) + 1)
            if int(piece.event_times_ms.min()) < begins_ms + reference_ms:
                kept.append(piece)
    if not ends_ms:
        raise ConfigurationError(
            "there are no feature rows: let the workers make them from the log (kappa up), or "
            "give --events FILES or --generate"
        )
    return begins_ms, ends_ms, kept


def _counts(
    rows: Rows, reference: Reference, split_ms: int, window_ms: int
) -> tuple[StepSums, Counter[int]]:
    """Return the counts per bin and the events by window, in time since ``split_ms``."""
    sums, events = StepSums(window_ms), Counter[int]()
    for piece in rows():
        since_ms = (piece.event_times_ms - split_ms) // window_ms * window_ms
        for at in np.unique(since_ms[since_ms >= 0]).tolist():
            here = _chosen(piece, since_ms == at)
            events[at] += len(here)
            for name, counts in reference.fine_counts(here).items():
                sums.add_total(name, at, counts)
    return sums, events


@dataclass(frozen=True, slots=True)
class _Chosen:
    """Some rows' columns."""

    numeric: np.ndarray[Any, np.dtype[np.float64]]
    categories: list[list[str]]

    def __len__(self) -> int:
        return len(self.numeric)


def _chosen(piece: FeatureRows, wanted: np.ndarray[Any, np.dtype[np.bool_]]) -> _Chosen:
    places = np.flatnonzero(wanted).tolist()
    return _Chosen(
        piece.numeric[wanted], [[column[i] for i in places] for column in piece.categories]
    )


def _summary_row(name: str, drifts: Sequence[Drift], labels: Sequence[str]) -> list[str]:
    values = [drift.psi for drift in drifts]
    place = int(np.argmax(values))
    return [
        name,
        f"{np.median(values):.3f}",
        f"{values[place]:.3f}",
        labels[place],
        f"{np.median([drift.critical for drift in drifts]):.3f}",
        str(sum(value < STABLE for value in values)),
        str(sum(STABLE <= value < MAJOR for value in values)),
        str(sum(value >= MAJOR for value in values)),
        str(sum(drift.alarming(MAJOR) for drift in drifts)),
    ]


def _cell(drift: Drift) -> str:
    return f"**{drift.psi:.3f}**" if drift.alarming(MAJOR) else f"{drift.psi:.3f}"


def _figures(course: Course) -> dict[str, Any]:
    return {
        "reference": {
            "begins_ms": course.begins_ms,
            "ends_ms": course.ends_ms,
            "n": course.n_reference,
        },
        "windows": [
            {
                "start_ms": window.start_ms,
                "end_ms": window.end_ms,
                "n": window.n,
                "features": {
                    drift.feature: {
                        "psi": drift.psi,
                        "critical": drift.critical,
                        "alarming": drift.alarming(MAJOR),
                    }
                    for drift in window.drifts
                },
            }
            for window in course.windows
        ],
    }


def _day(time_ms: int, zone: ZoneInfo | None = None) -> str:
    return datetime.fromtimestamp(time_ms / 1000, zone or UTC).strftime("%Y-%m-%d")
