"""The lockdown of March 2020, seen by the monitor in real trips: when, how, and what before it.

``python -m benchmarks.lockdown FOLDER`` with the operator's monthly files from June 2019 on. The
pipeline of examples/citibike.py as it is declared, a day at a time: features, answers of the live
model and labels go into the monitor's fold, which closes the day, says what it alerts of and when
to train. The last model is one of 2019: from then on no training goes live, so what happens in 2020
is compared with 2019. Nothing here knows of the lockdown but the printing.

Differences from a run with a broker: each model that is trained goes live (there is no contest with
the one before), at once after the day's close, as in ``kappa demo``.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from benchmarks.lockdown_stream import DAY_MS, Day, Past, Trainer, answers, days
from examples.citibike import pipeline
from serving.alerting.deciding import level_per_closing
from serving.alerting.records import alert_of
from serving.monitoring.judging import LiveModel
from serving.monitoring.state import MonitorState
from streams.wire import Alert
from training.loop.launch import WarmRanks
from training.package import Package

LOCKDOWN_MS = int(datetime(2020, 3, 16, tzinfo=UTC).timestamp() * 1000)
FROZEN_MS = int(datetime(2020, 1, 1, tzinfo=UTC).timestamp() * 1000)
QUIET_UNTIL_MS = int(datetime(2020, 3, 1, tzinfo=UTC).timestamp() * 1000)
WITHIN_MS = 7 * DAY_MS


@dataclass
class Course:
    """What happened: alerts in the order of being told, trainings, and each day's worst figures."""

    alerts: list[Alert] = field(default_factory=list)
    trainings: list[tuple[int, str]] = field(default_factory=list)
    figures: list[dict[str, Any]] = field(default_factory=list)

    def confirmed(self, from_ms: int, to_ms: int) -> list[Alert]:
        """Return the alerts first confirmed by a closing in [from, to)."""
        seen: set[str] = set()
        found = []
        for alert in self.alerts:
            if alert.state == "confirmed" and alert.key not in seen:
                seen.add(alert.key)
                if from_ms <= alert.window.end_ms < to_ms:
                    found.append(alert)
        return found


class Run:
    """The monitor, the live model and what it was told."""

    def __init__(self, trainer: Trainer) -> None:
        declared = pipeline
        self._trainer, self._past = trainer, Past(declared)
        self._package: Package | None = None
        self._live = LiveModel()
        self._ends = dict.fromkeys(range(declared.events.partitions), 0)
        step_ms = DAY_MS
        self.state = MonitorState(
            declared.monitors, declared.training, declared.features.groups, step_ms,
            declared.events.lateness_ms, declared.model.task, declared.alerting,
        )  # fmt: skip
        self.course = Course()

    def take(self, day: Day) -> None:
        """Let a day happen, and close it."""
        for rows in day.rows:
            begin = self._ends[rows.partition]
            self._ends[rows.partition] = begin + len(rows)
            self.state.add_features(rows, np.arange(begin, begin + len(rows)))
            scores = answers(self._package, rows, pipeline.model.prior)
            versions = np.full(len(rows), self._live.version, np.int64)
            self.state.add_predictions(rows.event_ids, scores, versions, rows.event_times_ms)
        self.state.add_labels(day.labels, 0)
        self._past.add(day)
        while (end_ms := self.state.next_end_ms()) is not None and end_ms <= day.end_ms:
            self._close(end_ms)

    def _close(self, end_ms: int) -> None:
        closing = self.state.close(self._live)
        for told in closing.told:
            self.course.alerts.append(alert_of(told, closing.decision.action, {}))
        for finding in closing.findings:
            if finding.excess is not None:
                m = finding.metric
                self.course.figures.append({
                    "end_ms": end_ms, "kind": finding.kind, "metric": m.metric,
                    "feature": m.feature, "value": m.value, "threshold": m.threshold, "n": m.n,
                    "excess": finding.excess, "p_value": m.p_value, "effect": m.effect,
                    "model": m.model_version, "chance": finding.chance,
                })  # fmt: skip
        if closing.decision.reason is not None and end_ms <= FROZEN_MS:
            self.course.trainings.append((end_ms, closing.decision.reason))
            self._live, self._package = self._trainer.train(self._past, end_ms)
            self.state.recount(self._live, self._past.since(end_ms - self.state.reach_ms))


def main() -> None:
    """Run it and print what it came to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="the operator's monthly files")
    parser.add_argument("--until", default="2020-04-30", help="the last day looked at")
    parser.add_argument("--models", type=Path, default=Path(".kappa/lockdown-models"))
    parser.add_argument("--json", type=Path, help="also write alerts and figures there")
    asked = parser.parse_args()
    until_ms = int(datetime.fromisoformat(f"{asked.until}T00:00Z").timestamp() * 1000)
    with WarmRanks() as launch:
        run = Run(Trainer(pipeline, asked.models, launch))
        for day in days(asked.folder, pipeline):
            if day.end_ms > until_ms:
                break
            run.take(day)
    for line in report(run.course):
        print(line)
    if asked.json is not None:
        asked.json.write_bytes(
            msgspec.json.encode({"alerts": run.course.alerts, "figures": run.course.figures})
        )
    if not found_in_time(run.course):
        raise SystemExit("the lockdown was not found within 7 days, or not by the hour")


def report(course: Course) -> list[str]:
    """Return the figures in words."""
    last = max((at for at, _ in course.trainings), default=0)
    lines = [f"{len(course.trainings)} models, the last one of {_day(last)}", ""]
    quiet = course.confirmed(0, QUIET_UNTIL_MS)
    lines += [f"confirmed alerts from June 2019 to February 2020: {len(quiet)}"]
    for number, alert in enumerate(quiet, 1):
        lines += [f"{number}.", *described(alert, course)]
    spring = course.confirmed(QUIET_UNTIL_MS, LOCKDOWN_MS)
    lines += ["", f"confirmed alerts from 1 to 15 March: {len(spring)}"]
    for alert in spring:
        lines += described(alert, course)
    after = course.confirmed(LOCKDOWN_MS, LOCKDOWN_MS + 30 * DAY_MS)
    lines += ["", f"confirmed alerts in the 30 days from 2020-03-16: {len(after)}"]
    for alert in after:
        lines += [
            f"+{(alert.window.end_ms - LOCKDOWN_MS) / DAY_MS:g} days",
            *described(alert, course),
        ]
    week_on_ms = LOCKDOWN_MS + WITHIN_MS
    return [*lines, "", *standing(course, week_on_ms), "", *ranked(course, week_on_ms)]


def standing(course: Course, end_ms: int) -> list[str]:
    """Return the alerts that stand after a closing, what costs most first."""
    newest = {a.key: a for a in course.alerts if a.window.end_ms <= end_ms}
    stands = [a for a in newest.values() if a.state == "confirmed"]
    stands.sort(key=lambda a: -(a.impact or 0.0))
    return [
        f"alerts that stand on {_day(end_ms)}, by their estimated effect on the loss:",
        *(
            f"   {a.impact or 0.0:+.3g} {a.kind} {_names(a)}, onset "
            f"{_day(a.onset.time_ms) if a.onset else '?'}"
            for a in stands
        ),
    ]


def _names(alert: Alert) -> str:
    others = [other.feature or other.metric for other in alert.related]
    return " with ".join([alert.feature or alert.metric, *([", ".join(others)] if others else [])])


def ranked(course: Course, end_ms: int) -> list[str]:
    """Return the features as far as they had moved by a closing, the largest effect first."""
    moved = [
        f for f in course.figures
        if (f["end_ms"], f["kind"], f["metric"]) == (end_ms, "data_drift", "psi")
    ]  # fmt: skip
    level = level_per_closing(pipeline.alerting.false_alarms_per_week, DAY_MS)
    moved.sort(key=lambda f: -abs(f["effect"] or 0.0))
    lines = [f"features by effect in the week that ends {_day(end_ms)}:"]
    for f in moved:
        said = "out of bounds" if f["p_value"] <= level else "it may be chance"
        said = said if f["excess"] >= 1 else "within bounds"
        lines.append(
            f"   {f['feature']}: effect {f['effect']:.3g}, PSI {f['value']:.3g} (threshold "
            f"{f['threshold']:g}), adjusted p {f['p_value']:.2g}, {said}"
        )
    return lines


def described(alert: Alert, course: Course) -> list[str]:
    """Return an alert with what it names, ranked by effect, its bins, onset and end."""
    m = alert
    ends = [a.window.end_ms for a in course.alerts if a.key == m.key and a.state == "resolved"]
    figures = f"value {m.value:.3g}, threshold {m.threshold:.3g}, n {m.n:,}"
    if m.p_value is not None:
        figures += f", adjusted p {m.p_value:.2g}"
    if m.effect is not None:
        figures += f", effect {m.effect:.3g}"
    if m.impact is not None:
        figures += f", loss {m.impact:+.3g}"
    lines = [
        f"   {_day(m.window.end_ms)} {m.severity} {m.kind} {m.metric} {m.feature or ''}: {m.cause}",
        f"      {figures}; onset {_day(m.onset.time_ms) if m.onset else '?'}; model "
        f"{m.model_version}; action {m.action}; resolved {_day(ends[0]) if ends else 'not'}",
    ]
    lines += [f"      bin {b.bin}: {b.expected:.1%} -> {b.observed:.1%}" for b in m.bins[:4]]
    for other in m.related:
        effect = "" if other.effect is None else f", effect {other.effect:.3g}"
        about = other.feature or other.group or ""
        lines.append(f"      with {other.metric} {about}: {other.value:.3g}{effect}")
    again = [a for a in course.alerts if a.key == m.key and a.state == "confirmed"][1:]
    return lines + [f"      told again {_day(a.window.end_ms)}: {a.cause}" for a in again]


def found_in_time(course: Course) -> bool:
    """Return whether an alert was first confirmed within a week of the lockdown, and one by then
    names the hour: who rode to work did not."""
    in_time = course.confirmed(LOCKDOWN_MS, LOCKDOWN_MS + WITHIN_MS + 1)
    named = {name for a in in_time for name in (a.feature, *(r.feature for r in a.related))}
    return bool(in_time) and "hour" in named


def _day(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d")


if __name__ == "__main__":
    main()
