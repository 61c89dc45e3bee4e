"""How often drift alarms where nothing has changed: weeks of stationary windows with 50 features.

    uv run python benchmarks/false_alarms.py [--weeks N] [--evidently-weeks N] [--json]

Each course has a reference of eight weeks and then ten weeks of days, all of one stationary
process; a window of a week closes every day, and findings and alerts are made by the monitor's own
functions. Of the 50 features some are independent noise of several kinds, some categories, some
follow the hour or the weekday, and some wander (their mean is a stationary autoregression with a
memory of hours, or of days). At each setting of the knob, the confirmed alerts per week are counted
with the declared thresholds, and with a threshold so small that chance alone decides; and, for
comparison, how often that alone would have alarmed with events taken as independent. Evidently's
defaults see the last window of each week, the first so many weeks of them.
"""

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import evidently_peer  # noqa: E402
from benchmarks.peers.outcome import PeerSkippedError  # noqa: E402
from benchmarks.report import report  # noqa: E402
from serving.alerting.alarms import Alarms  # noqa: E402
from serving.alerting.declared import Alerting  # noqa: E402
from serving.alerting.finding import Finding  # noqa: E402
from serving.drift.comparing import compare_all  # noqa: E402
from serving.monitoring.drift_findings import findings_of  # noqa: E402
from serving.spec import DataDrift  # noqa: E402
from streams.wire import Window  # noqa: E402
from training.reference import Counts, Reference  # noqa: E402

DAY_MS = 86_400_000
REFERENCE_DAYS, WEEKS_PER_COURSE, WINDOW_DAYS = 56, 10, 7
PER_DAY = 200
KNOBS = (0.1, 1.0)
NUMBERS, CATEGORIES = 40, 10
TINY = 1e-6

Floats = NDArray[np.float64]


@dataclass
class Rows:
    """Numbers (n, 40) and ten columns of texts, by their codes (n, 10)."""

    numeric: Floats
    codes: NDArray[np.int64]

    @property
    def categories(self) -> list[list[str]]:
        """The texts."""
        return [[f"c{code}" for code in column.tolist()] for column in self.codes.T]


class Process:
    """A stationary stream of ``PER_DAY`` events a day; each course has one of its own."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._day = 0
        self._hours, self._days = self._rng.normal(size=10), self._rng.normal(size=5)
        self._shares = [self._rng.dirichlet(np.full(k, 0.8)) for k in (2, 3, 5, 10, 20, 40, 80)]

    def day(self) -> tuple[Rows, NDArray[np.int64]]:
        """Return the next day's events and their times."""
        rng, n = self._rng, PER_DAY
        hour = np.sort(rng.integers(0, 24, n))
        times = self._day * DAY_MS + hour * (DAY_MS // 24)
        x = np.empty((n, NUMBERS))
        x[:, :8] = rng.normal(size=(n, 8))
        x[:, 8:12] = rng.lognormal(sigma=1.5, size=(n, 4))
        x[:, 12:16] = rng.poisson((0.2, 1, 4, 20), (n, 4))
        x[:, 16:20] = np.where(rng.random((n, 4)) < 0.7, 0.0, rng.exponential(size=(n, 4)))
        x[:, 20:22] = np.where(rng.random((n, 2)) < 0.2, np.nan, rng.normal(size=(n, 2)))
        x[:, 22] = hour
        x[:, 23] = self._day % 7
        x[:, 24] = np.sin(hour / 24 * 2 * np.pi) + 0.1 * rng.normal(size=n)
        x[:, 25:35] = self._by_hour(hour) + rng.normal(size=(n, 10))
        x[:, 35:] = 0.5 * self._days + rng.normal(size=(n, 5))
        self._days = 0.7 * self._days + np.sqrt(1 - 0.49) * rng.normal(size=5)
        codes = [rng.choice(len(shares), n, p=shares) for shares in self._shares]
        tilted = rng.random((n, 3)) < 1 / (1 + np.exp(-0.5 * self._days[:3]))
        self._day += 1
        return Rows(x, np.concatenate([np.stack(codes, axis=1), tilted], axis=1)), times

    def _by_hour(self, hour: NDArray[np.int64]) -> Floats:
        course = np.empty((24, 10))
        for at in range(24):
            self._hours = 0.8 * self._hours + 0.6 * self._rng.normal(size=10)
            course[at] = self._hours
        means: Floats = 0.5 * course[hour]
        return means


def joined(days: list[Rows]) -> Rows:
    """Return days as one."""
    return Rows(np.concatenate([d.numeric for d in days]), np.concatenate([d.codes for d in days]))


class Course:
    """A reference and the windows after it."""

    def __init__(self, seed: int) -> None:
        self._process = Process(seed)
        days = [self._process.day() for _ in range(REFERENCE_DAYS)]
        self.known = joined([rows for rows, _ in days])
        names = [f"x{i}" for i in range(NUMBERS)], [f"c{i}" for i in range(CATEGORIES)]
        times = np.concatenate([times for _, times in days])
        self.reference = Reference.from_columns([self.known], *names, [times])

    def windows(self) -> Iterator[tuple[int, Counts, list[Rows]]]:
        """Yield (end, fine counts, the days) of each window, one a day."""
        days: list[tuple[Rows, Counts]] = []
        for day in range(WINDOW_DAYS - 1 + 7 * WEEKS_PER_COURSE):
            rows, _ = self._process.day()
            days = [*days, (rows, self.reference.fine_counts(rows))][-WINDOW_DAYS:]
            if len(days) == WINDOW_DAYS:
                total = {
                    name: np.sum([counts[name] for _, counts in days], axis=0)
                    for name in self.reference.names
                }
                yield (REFERENCE_DAYS + day + 1) * DAY_MS, total, [rows for rows, _ in days]


def findings(reference: Reference, counts: Counts, end_ms: int, threshold: float) -> list[Finding]:
    """Return what the monitor's watch finds in a window."""
    window = Window(end_ms - WINDOW_DAYS * DAY_MS, end_ms)
    return [
        finding
        for drift in compare_all(reference, counts, WINDOW_DAYS * DAY_MS)
        for finding in findings_of(
            drift, kind="data_drift", threshold=threshold, window=window, version=1,
            observed=reference.coarse(drift.feature, counts[drift.feature]),
            onset=lambda: None,
        )
    ]  # fmt: skip


class Counted:
    """Counts confirmed alerts by how they were decided."""

    def __init__(self) -> None:
        self.alerts: Counter[str] = Counter()
        self.features: Counter[str] = Counter()
        self.classic = 0
        self.weeks = 0

    def take(self, course: Course) -> list[Rows]:
        """Go through a course; return the windows at the weeks' ends."""
        plain = replace(course.reference, dispersions={})
        threshold = DataDrift().threshold
        ways = {
            "": (course.reference, threshold),
            "_by_chance_alone": (course.reference, TINY),
            "_by_chance_if_independent": (plain, TINY),
        }
        alarms = {
            (knob, way): Alarms(Alerting(false_alarms_per_week=knob), DAY_MS)
            for knob in KNOBS
            for way in ways
        }
        ends: list[Rows] = []
        for number, (end_ms, counts, days) in enumerate(course.windows(), start=1):
            found = {
                way: findings(reference, counts, end_ms, limit)
                for way, (reference, limit) in ways.items()
            }
            self.classic += any(
                f.metric.metric == "psi" and f.metric.value > 0.1 for f in found[""]
            )
            for (knob, way), each in alarms.items():
                told = each.close(found[way], end_ms).told
                name = f"knob_{knob:g}{way}"
                confirmed = [alert for alert in told if alert.state == "confirmed"]
                self.alerts[name] += len(confirmed)
                if not way:
                    self.features.update(str(a.lead.metric.feature) for a in confirmed)
            if number % 7 == 0:
                ends.append(joined(days))
        self.weeks += WEEKS_PER_COURSE
        return ends

    def figures(self) -> dict[str, float]:
        """Return alerts per week."""
        rates = {f"{name}_per_week": n / self.weeks for name, n in sorted(self.alerts.items())}
        return {
            "weeks": float(self.weeks),
            **rates,
            "days_with_a_psi_above_0.1_per_week": self.classic / self.weeks,
        }


def of_evidently(courses: int, weeks: int) -> tuple[dict[str, float], dict[str, str]]:
    """Return what Evidently's defaults flag on the first ``weeks`` windows of each course."""
    columns: list[int] = []
    versions: dict[str, str] = {}
    for seed in range(courses):
        course = Course(seed)
        ends = [joined(days) for i, (*_, days) in enumerate(course.windows(), 1) if i % 7 == 0]
        known, *windows = (np.hstack([r.numeric, r.codes]) for r in (course.known, *ends[:weeks]))
        with tempfile.TemporaryDirectory() as folder:
            told = evidently_peer.run("alarms", Path(folder), known, np.stack(windows), CATEGORIES)
        columns += told["columns"]
        versions = {f"evidently's {name}": v for name, v in told["versions"].items()}
    figures = {
        "evidently_weeks": float(len(columns)),
        "evidently_drifted_columns_per_week": float(np.mean(columns)),
        "evidently_weeks_with_a_drifted_column": float(np.mean(np.array(columns) > 0)),
    }
    return figures, versions


def main(weeks: int, evidently_weeks: int, as_json: bool) -> None:
    """Measure and print."""
    counted = Counted()
    for seed in range(max(1, weeks // WEEKS_PER_COURSE)):
        counted.take(Course(seed))
        if seed % 10 == 9:
            print(f"{counted.weeks} weeks: {dict(counted.features)}", file=sys.stderr)
    figures, skipped, versions = counted.figures(), dict[str, str](), dict[str, str]()
    goals = {}
    for knob in KNOBS:
        within = f"knob_{knob:g}_within"
        figures[within] = float(figures[f"knob_{knob:g}_per_week"] <= knob)
        goals[within] = 1.0
    if evidently_weeks:
        try:
            per_course = min(WEEKS_PER_COURSE, evidently_weeks)
            told, versions = of_evidently(max(1, evidently_weeks // per_course), per_course)
            figures |= told
        except PeerSkippedError as error:
            skipped["evidently"] = str(error)
    report(
        f"false alarms of {NUMBERS + CATEGORIES} features in stationary weeks",
        figures, goals, ("numpy", "scipy"), as_json, skipped, versions,
    )  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weeks", type=int, default=1_000)
    parser.add_argument("--evidently-weeks", type=int, default=50)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    main(options.weeks, options.evidently_weeks, options.json)
