"""How often drift alarms where nothing has changed, and whether it does where something has.

    uv run python benchmarks/false_alarms.py [--weeks N] [--evidently-weeks N] [--json]

Each course has a reference of eight weeks and then ten weeks of days, all of one stationary
process; a window of a week closes every day. The monitor's own classes count, compare and alert.
Of the 50 features some are independent noise of several kinds, some categories, some follow the
hour or the weekday, and some wander (their mean is a stationary autoregression with a memory of
hours, or of days). At each setting of the knob, the confirmed alerts per week are counted, and at
how many closings a week there would be a figure out of bounds did the size of the change not count,
chance alone; the same with events taken as independent. Evidently's defaults see the last window of
each week, the first so many weeks of them.

After its ten weeks each course goes on for two more, in which one of :data:`CHANGES` happens, in
turn: how many of them are confirmed with the feature named, and after how many days. Of a feature
that wanders eight weeks tell little, so that one has no goal.
"""

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import evidently_peer  # noqa: E402
from benchmarks.peers.outcome import PeerSkippedError  # noqa: E402
from benchmarks.report import report  # noqa: E402
from features.records import FeatureRows  # noqa: E402
from serving.alerting.alarms import Alarms  # noqa: E402
from serving.alerting.deciding import judge_together, level_per_closing  # noqa: E402
from serving.alerting.declared import Alerting  # noqa: E402
from serving.alerting.finding import Finding  # noqa: E402
from serving.alerting.grouping import Told  # noqa: E402
from serving.drift.psi import MODERATE  # noqa: E402
from serving.monitoring.drift_watch import DataDriftWatch  # noqa: E402
from serving.monitoring.groups import Groups  # noqa: E402
from serving.monitoring.judging import LiveModel  # noqa: E402
from serving.spec import DataDrift  # noqa: E402
from training.reference import Reference  # noqa: E402

DAY_MS = 86_400_000
REFERENCE_DAYS, WEEKS_PER_COURSE, WINDOW_DAYS = 56, 10, 7
PER_DAY = 200
KNOBS = (0.1, 1.0)
NUMBERS, CATEGORIES = 40, 10
TINY = 1e-6

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Codes = Ints
"""(n, 10) codes of texts."""


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


def missing_more_often(x: Floats, _codes: Codes) -> None:
    """Of a number of which a fifth is missing, two fifths are."""
    x[::4, 20] = np.nan


def shifted(x: Floats, _codes: Codes) -> None:
    """An independent normal number moves by its standard deviation."""
    x[:, 0] += 1.0


def shifted_though_it_wanders(x: Floats, _codes: Codes) -> None:
    """A number whose daily mean wanders by 0.5 moves by four times that."""
    x[:, 35] += 2.0


def new_texts(_x: Floats, codes: Codes) -> None:
    """A tenth of a category are texts that training did not have."""
    codes[::10, 3] = 99


CHANGES: dict[str, Callable[[Floats, Codes], None]] = {
    "x0": shifted,
    "x20": missing_more_often,
    "x35": shifted_though_it_wanders,
    "c3": new_texts,
}
CALM_DAYS, CHANGED_DAYS = WINDOW_DAYS - 1 + 7 * WEEKS_PER_COURSE, 14


class Course:
    """A reference and the days after it."""

    def __init__(self, seed: int) -> None:
        self._process = Process(seed)
        days = [self._process.day() for _ in range(REFERENCE_DAYS)]
        self.known = joined([rows for rows, _ in days])
        names = [f"x{i}" for i in range(NUMBERS)], [f"c{i}" for i in range(CATEGORIES)]
        times = np.concatenate([times for _, times in days])
        self.reference = Reference.from_columns([self.known], *names, [times])
        self.changed = list(CHANGES)[seed % len(CHANGES)]

    def days(self) -> Iterator[tuple[int, Rows, Ints]]:
        """Yield (the day's end, its rows, their times): before the first window is whole, the ten
        weeks, and the days of the change."""
        for day in range(CALM_DAYS + CHANGED_DAYS):
            rows, times = self._process.day()
            if day >= CALM_DAYS:
                CHANGES[self.changed](rows.numeric, rows.codes)
            yield (REFERENCE_DAYS + day + 1) * DAY_MS, rows, times

    def ends(self) -> Iterator[Rows]:
        """Yield the windows at the ends of the calm weeks."""
        days: list[Rows] = []
        for number, (_, rows, _) in enumerate(self.days(), start=1):
            days = [*days, rows][-WINDOW_DAYS:]
            if number >= WINDOW_DAYS and number % WINDOW_DAYS == WINDOW_DAYS - 1:
                yield joined(days)
            if number == CALM_DAYS:
                return


class Watched:
    """The monitor's watch of one reference."""

    def __init__(self, reference: Reference, threshold: float) -> None:
        monitor = DataDrift(window=f"{WINDOW_DAYS}d", threshold=threshold)
        self._live = LiveModel(1, reference.expected, {}, reference)
        self._watch = DataDriftWatch(monitor, DAY_MS, Groups(()))
        self._watch.use(self._live)

    def close(self, end_ms: int, rows: FeatureRows) -> list[Finding]:
        """Count a day, and return the figures of the window that ends with it."""
        self._watch.add_features(rows, np.ones(len(rows), dtype=np.bool_))
        self._watch.forget(end_ms - WINDOW_DAYS * DAY_MS)
        return self._watch.close(self._live, end_ms)


class Counted:
    """Counts confirmed alerts, and the closings at which chance alone shows a change."""

    def __init__(self) -> None:
        self.alerts: Counter[str] = Counter()
        self.features: Counter[str] = Counter()
        self.found: dict[str, list[int | None]] = {name: [] for name in CHANGES}
        self.weeks = 0

    def take(self, course: Course) -> None:
        """Go through a course."""
        watched = Watched(course.reference, DataDrift().threshold)
        plain = replace(course.reference, dispersions={})
        by_chance = {
            "closings_by_chance": Watched(course.reference, TINY),
            "closings_by_chance_if_independent": Watched(plain, TINY),
        }
        alarms = {k: Alarms(Alerting(false_alarms_per_week=k), DAY_MS) for k in KNOBS}
        after: int | None = None
        for number, (end_ms, rows, times) in enumerate(course.days(), start=1):
            records = _records(rows, times)
            found = watched.close(end_ms, records)
            chance = {n: w.close(end_ms, records) for n, w in by_chance.items()}
            if number < WINDOW_DAYS:
                continue
            told = {
                k: [t for t in each.close(found, end_ms).told if t.state == "confirmed"]
                for k, each in alarms.items()
            }
            if number <= CALM_DAYS:
                self._count(told, found, chance)
            elif after is None and course.changed in _named(told[KNOBS[0]]):
                after = number - CALM_DAYS
        self.found[course.changed].append(after)
        self.weeks += WEEKS_PER_COURSE

    def _count(
        self,
        told: dict[float, list[Told]],
        found: list[Finding],
        chance: dict[str, list[Finding]],
    ) -> None:
        psi = (each.metric.value for each in found if each.metric.metric == "psi")
        self.alerts[f"days_with_a_psi_above_{MODERATE:g}"] += max(psi) > MODERATE
        for knob in KNOBS:
            first = [each for each in told[knob] if not each.again]
            self.alerts[f"knob_{knob:g}_alerts"] += len(first)
            self.features.update(f"{each.lead.metric.feature} at {knob:g}" for each in first)
            level = level_per_closing(knob, DAY_MS)
            for name, findings in chance.items():
                shows = any(each.shows for each in judge_together(findings, level))
                self.alerts[f"knob_{knob:g}_{name}"] += shows

    def figures(self) -> dict[str, float]:
        """Return alerts per week, and what was found of the changes."""
        figures = {"weeks": float(self.weeks)}
        figures |= {f"{name}_per_week": n / self.weeks for name, n in sorted(self.alerts.items())}
        for name, days in self.found.items():
            seen = [day for day in days if day is not None]
            if days:
                figures[_found(name)] = len(seen) / len(days)
            if seen:
                figures[f"{_found(name)}_after_days"] = float(np.median(seen))
        return figures


def _found(name: str) -> str:
    return f"{CHANGES[name].__name__}_found"


def _records(rows: Rows, times: Ints) -> FeatureRows:
    n = len(times)
    return FeatureRows(
        0, [""] * n, [""] * n, times, np.arange(n), rows.numeric, rows.categories, []
    )  # fmt: skip


def _named(confirmed: list[Told]) -> set[str | None]:
    """Return the features that alerts name."""
    figures = [f for told in confirmed for f in (told.lead, *told.related, *told.joined)]
    return {each.metric.feature for each in figures}


def of_evidently(courses: int, weeks: int) -> tuple[dict[str, float], dict[str, str]]:
    """Return what Evidently's defaults flag on the first ``weeks`` windows of each course."""
    columns: list[int] = []
    versions: dict[str, str] = {}
    for seed in range(courses):
        course = Course(seed)
        ends = list(islice(course.ends(), weeks))
        known, *windows = (np.hstack([r.numeric, r.codes]) for r in (course.known, *ends))
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
        figures[within] = float(figures[f"knob_{knob:g}_alerts_per_week"] <= knob)
        goals[within] = 1.0
    steady = {name for name in CHANGES if name != "x35"}
    goals |= {_found(name): 0.9 for name in steady if _found(name) in figures}
    if evidently_weeks:
        try:
            per_course = min(WEEKS_PER_COURSE, evidently_weeks)
            told, versions = of_evidently(max(1, evidently_weeks // per_course), per_course)
            figures |= told
        except PeerSkippedError as error:
            skipped["evidently"] = str(error)
    report(
        f"alarms of {NUMBERS + CATEGORIES} features in stationary weeks, and after a change",
        figures, goals, ("numpy", "scipy"), as_json, skipped, versions,
    )  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weeks", type=int, default=1_000)
    parser.add_argument("--evidently-weeks", type=int, default=50)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    main(options.weeks, options.evidently_weeks, options.json)
