"""What a watch says of one figure of a closed window, before it is decided whether to alarm."""

from __future__ import annotations

from dataclasses import dataclass

from streams.wire import AlertKind, Metric, Onset, Severity, ShiftedBin

LABELS = "labels"
"""What an onset in the labels topic names as its topic; the alert's record has the topic's name."""


@dataclass(frozen=True)
class Finding:
    """A figure.

    Args:
        kind: of the alert that it would be.
        metric: what is written to the metrics topic; ``p_value`` is filled in where findings are
            judged together.
        excess: the figure in units of its threshold: from 1 on the difference matters, and below
            :attr:`serving.alerting.declared.Alerting.resolve` a standing alert is resolved. None is
            a figure that never alarms.
        chance: how probable such a figure is where nothing has changed (a p-value for this one
            figure alone), None where the figure is no test and ``excess`` decides alone.
        cause: why it matters, in words, with the numbers; wanted where ``excess`` is 1 or more.
        severity: of the alert.
        bins: the most shifted bins, for the alert.
        onset: where the change began, where the watch knows it.
        impact: by how much the loss is estimated to have grown through it.
    """

    kind: AlertKind
    metric: Metric
    excess: float | None = None
    chance: float | None = None
    cause: str | None = None
    severity: Severity = "warning"
    bins: tuple[ShiftedBin, ...] = ()
    onset: Onset | None = None
    impact: float | None = None

    @property
    def key(self) -> str:
        """What an excursion is about: the same for the same figure of later windows."""
        m = self.metric
        length_ms = m.window.end_ms - m.window.start_ms
        about = f"{m.feature or ''}" if m.group is None else f"{m.feature or ''}[{m.group}]"
        return f"{self.kind}/{m.metric}/{about}/{length_ms}"
