"""What a run came to, per period: how well each model answered, alerts, versions. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from serving.monitoring.told import answers_of, can_be_scored
from streams.wire import Alert, Registered
from training.networks.tasks import Binary, MultiClass, Regression, Task
from training.scores import losses

_BINARY = Binary()
QUARTER_HOUR_MS = 900_000
WEEKLY_UP_TO_MS = 70 * 86_400_000


@dataclass(frozen=True, slots=True)
class Answers:
    """Predictions of one column of the summary; all sequences have the same length n.

    ``scores`` are rows as of :mod:`serving.monitoring.told`.
    """

    event_ids: list[str]
    scores: NDArray[np.float64]
    versions: NDArray[np.int64]
    event_times_ms: NDArray[np.int64]

    def only(self, version: int) -> "Answers":
        """Return the answers of one model version."""
        chosen = np.flatnonzero(self.versions == version)
        return Answers(
            [self.event_ids[i] for i in chosen],
            self.scores[chosen],
            self.versions[chosen],
            self.event_times_ms[chosen],
        )


@dataclass(frozen=True, slots=True)
class Labels:
    """The labels that arrived, in order of arrival; sequences of the same length."""

    event_ids: list[str]
    targets: NDArray[np.float64]
    known_ms: NDArray[np.int64]

    def by_event(self) -> dict[str, float]:
        """Return event id → target; the first label of an event counts."""
        pairs = zip(reversed(self.event_ids), self.targets[::-1].tolist(), strict=True)
        return dict(pairs)


@dataclass(frozen=True, slots=True)
class Score:
    """Mean scores over ``n`` labelled answers; None where there are none, or the task has none.

    ``crps`` and ``rmse`` are those of a regression, in units of the target.
    """

    n: int
    brier: float | None = None
    log_loss: float | None = None
    accuracy: float | None = None
    crps: float | None = None
    rmse: float | None = None


def score(scores: NDArray[np.float64], targets: NDArray[np.float64], task: Task = _BINARY) -> Score:
    """Return the mean proper scores, and how often the answer is right; those of
    :func:`training.scores.losses`. NaN targets, and answers that can't be scored, are left out.
    """
    known = np.isfinite(targets) & can_be_scored(scores)
    if not known.any():
        return Score(0)
    p, y = scores[known], targets[known]
    means = {k: float(each.mean()) for k, each in losses(task, answers_of(task, p), y).items()}
    if isinstance(task, Regression):
        return Score(len(y), **means, rmse=float(np.sqrt(np.mean((p[:, 0] - y) ** 2))))
    hits = (p >= 0.5) == (y == 1) if isinstance(task, Binary) else p.argmax(axis=1) == y
    return Score(len(y), **means, accuracy=float(hits.mean()))


def last_label_score(
    answers: Answers, labels: Labels, truth: Mapping[str, float], task: Task = _BINARY
) -> Score:
    """Return the score of the no-change rule: the label that arrived last answers.

    It has no spread: of a regression its root mean square error is all that is told.

    A label counts for an event when it was known at or before the event's time.
    """
    order = np.argsort(labels.known_ms, kind="stable")
    latest = np.searchsorted(labels.known_ms[order], answers.event_times_ms, side="right") - 1
    rule = labels.targets[order][np.maximum(latest, 0)] if len(order) else np.zeros(0)
    targets = _targets(answers, truth)
    targets = np.where((latest >= 0) & np.isfinite(rule), targets, np.nan) if len(rule) else targets
    match task:
        case _ if not len(rule):
            return Score(0)
        case Binary():
            return score(rule, targets)
        case MultiClass(classes=classes):
            certain = np.eye(len(classes))[np.nan_to_num(rule).astype(np.int64)]
            return score(certain, targets, task)
        case _:
            errors = (rule - targets)[np.isfinite(targets)]
            rmse = float(np.sqrt(np.mean(errors**2))) if len(errors) else None
            return Score(len(errors), rmse=rmse)


def periods(
    columns: Mapping[str, Answers],
    labels: Labels,
    alerts: Sequence[Alert],
    timezone: str,
    baseline: str | None,
    task: Task = _BINARY,
) -> list[dict[str, Any]]:
    """Return one row per calendar month, or per week where the run is short, oldest first.

    Periods are those of event time in ``timezone``; a week is named by its Monday. ``columns``
    maps "live" and the names of versions shown beside it to their answers. A row has period,
    events, labelled, alerts, versions and a score per column.
    """
    truth = labels.by_event()
    period = _Period.fitting(columns["live"].event_times_ms, ZoneInfo(timezone))
    named = {name: period.of_all(answers.event_times_ms) for name, answers in columns.items()}
    raised = [period.of(alert.window.end_ms - 1) for alert in alerts]
    rows = []
    for label in sorted({*named["live"].tolist()}):
        row: dict[str, Any] = {"period": label, "alerts": raised.count(label)}
        for name, answers in columns.items():
            part = _take(answers, np.flatnonzero(named[name] == label))
            result = score(part.scores, _targets(part, truth), task)
            if name == "live":
                row["events"] = len(part.event_ids)
                row["labelled"] = result.n
                row["versions"] = sorted(set(part.versions.tolist()))
                if baseline == "last_label":
                    row["no_change"] = _figures(last_label_score(part, labels, truth, task), task)
            row[name] = _figures(result, task)
        rows.append(row)
    return rows


def after_first_training(
    live: Answers, labels: Labels, baseline: str | None, task: Task = _BINARY
) -> dict[str, dict[str, Any]]:
    """Return the scores over all events that a trained version answered."""
    truth = labels.by_event()
    trained = _take(live, np.flatnonzero(live.versions > 0))
    found = score(trained.scores, _targets(trained, truth), task)
    result = {"live": _figures(found, task)}
    if baseline == "last_label":
        result["no_change"] = _figures(last_label_score(trained, labels, truth, task), task)
    return result


def models(registered: Sequence[Registered]) -> list[dict[str, Any]]:
    """Return version, metrics and manifest of each model, without what differs between runs."""
    return [
        {
            "version": event.version,
            "command_id": event.command_id,
            "metrics": event.metrics,
            "sha256": event.sha256,
            "manifest": event.manifest,
        }
        for event in sorted(registered, key=lambda event: event.version)
    ]


def _figures(result: Score, task: Task) -> dict[str, Any]:
    figures = {
        "n": result.n,
        "brier": result.brier,
        "log_loss": result.log_loss,
        "accuracy": result.accuracy,
    }
    if isinstance(task, Regression):
        figures |= {"crps": result.crps, "rmse": result.rmse}
    return figures


def _take(answers: Answers, chosen: NDArray[np.intp]) -> Answers:
    return Answers(
        [answers.event_ids[i] for i in chosen],
        answers.scores[chosen],
        answers.versions[chosen],
        answers.event_times_ms[chosen],
    )


def _targets(answers: Answers, truth: Mapping[str, float]) -> NDArray[np.float64]:
    get = truth.get
    return np.array([get(i, np.nan) for i in answers.event_ids], dtype=np.float64)


@dataclass(frozen=True)
class _Period:
    """Names the period of a time: its month ("2020-03") or its week's Monday ("2020-03-09")."""

    zone: ZoneInfo
    weekly: bool

    @classmethod
    def fitting(cls, times_ms: NDArray[np.int64], zone: ZoneInfo) -> "_Period":
        """Return weeks for a stretch of up to ten of them, months for a longer one."""
        span_ms = int(times_ms.max() - times_ms.min()) if len(times_ms) else 0
        return cls(zone, weekly=span_ms <= WEEKLY_UP_TO_MS)

    def of(self, time_ms: int) -> str:
        """Return the name of the period of one time."""
        local = datetime.fromtimestamp(time_ms / 1000, UTC).astimezone(self.zone)
        if self.weekly:
            return (local.date() - timedelta(days=local.weekday())).isoformat()
        return local.strftime("%Y-%m")

    def of_all(self, times_ms: NDArray[np.int64]) -> NDArray[np.str_]:
        """Return the names for all times, shape (n,). No zone changes within a quarter hour."""
        quarters, inverse = np.unique(times_ms // QUARTER_HOUR_MS, return_inverse=True)
        names = np.array([self.of(int(quarter) * QUARTER_HOUR_MS) for quarter in quarters])
        return names[inverse] if len(names) else np.array([], dtype=np.str_)
