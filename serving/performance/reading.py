"""The newest statement of each figure in the metrics topic, put together by window and slice."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Literal

import msgspec

from streams.wire import Metric, Window

By = Literal["event", "label"]


@dataclass(frozen=True)
class Row:
    """The figures of one window of one slice: ``figures`` by name, as they were told last.

    ``about`` is what a figure is of beside its group: a class, or None.
    """

    window: Window
    model_version: int
    group: str | None
    about: str | None
    by: By
    figures: dict[str, Metric] = dataclasses.field(default_factory=dict)

    @property
    def n(self) -> int:
        """How many labels the figures are of."""
        return max(metric.n for metric in self.figures.values())

    @property
    def restated(self) -> int:
        """How often the figures were told before."""
        return max(metric.restated for metric in self.figures.values())


@dataclass(frozen=True)
class Wanted:
    """Which figures are asked for: these ``metrics``, of windows cut ``by``, of
    a ``version``, a ``group`` ("field=value"), the groups of a ``field``; None is any."""

    metrics: Collection[str]
    by: By
    version: int | None = None
    group: str | None = None
    with_groups: bool = True
    field: str | None = None

    def __contains__(self, metric: Metric) -> bool:
        """Return whether a figure belongs to what is asked for."""
        return (
            metric.metric in self.metrics
            and metric.by == self.by
            and self.version in (None, metric.model_version)
            and (self.with_groups or metric.group is None)
            and self.group in (None, metric.group)
            and self.field in (None, (metric.group or "").partition("=")[0])
        )


def rows_of(values: Iterable[bytes], wanted: Wanted) -> list[Row]:
    """Return what the records of the metrics topic, in order, say in the end; by end of window,
    version and group. A figure told again takes the place of what was told before."""
    rows: dict[tuple[int, int, int, str, str], Row] = {}
    for metric in map(msgspec.json.Decoder(Metric).decode, values):
        if metric not in wanted:
            continue
        w = metric.window
        key = (w.end_ms, w.start_ms, metric.model_version, metric.group or "", metric.feature or "")
        row = rows.get(key)
        if row is None:
            row = rows[key] = Row(
                w, metric.model_version, metric.group, metric.feature, metric.by, {}
            )
        before = row.figures.get(metric.metric)
        if before is None or metric.restated >= before.restated:
            row.figures[metric.metric] = metric
    return [rows[key] for key in sorted(rows)]


def newest_windows(rows: list[Row], count: int) -> list[Row]:
    """Return the rows of the last ``count`` windows."""
    ends = sorted({(row.window.end_ms, row.window.start_ms) for row in rows})[-count:]
    return [row for row in rows if (row.window.end_ms, row.window.start_ms) in set(ends)]
