"""Figures of the monitor: drift, performance and fairness."""

from typing import Literal

import msgspec

from serving.dashboard.documents.document import Document


class DriftWindow(msgspec.Struct, frozen=True):
    """A column of the heat map: event time [start, end) and the model that it was compared with."""

    start_ms: int
    end_ms: int
    model_version: int


class DriftFigures(msgspec.Struct, frozen=True):
    """One metric (``psi``, ``ks``, ``chi_squared``, ``wasserstein``, ``missing``, ...) of all
    features and windows.

    Each list is by row: ``value[row][column]`` belongs to ``features[row]`` and
    ``windows[column]``; None where it was not judged. ``p`` is adjusted for all that was judged
    together, ``effect`` in units of its own, ``n`` events in the window. ``thresholds[row]`` is
    the newest threshold of the row. ``excess[row][column]`` is value / threshold, where there is a
    threshold: at 1 or above it matters.
    """

    metric: str
    value: list[list[float | None]]
    p: list[list[float | None]]
    effect: list[list[float | None]]
    n: list[list[int | None]]
    excess: list[list[float | None]]
    thresholds: list[float | None]


class Drift(Document, frozen=True, kw_only=True):
    """The heat map: features × closed windows.

    ``features`` are row labels: a feature's name, or ``name[field=value]`` of a group, or
    ``prediction`` for the scores. ``windows`` ascend by end, then start. Where ``whole`` is false
    it holds only the windows that are new or judged anew, for all features: replace columns of the
    same (start, end, version), insert the others, and widen rows that are new by None.
    The two distributions of a cell come from ``GET /api/drift/cell``.
    """

    whole: bool = True
    features: list[str]
    windows: list[DriftWindow]
    figures: list[DriftFigures]


class DriftCell(msgspec.Struct, frozen=True):
    """``GET /api/drift/cell?feature=&start_ms=&end_ms=&version=``: two distributions of a feature.

    ``bins`` are labels; ``expected`` and ``observed`` the shares per bin, each summing to 1
    (``expected`` None where the reference can't be had, ``observed`` where the window's counts are
    not kept), ``expected_n`` and ``n`` of how many. ``reference`` says what the expected come from,
    ``why`` what is missing and why, for people. ``figures`` are all metrics of the cell.
    """

    feature: str
    window: DriftWindow
    bins: list[str]
    expected: list[float] | None
    observed: list[float] | None
    expected_n: int | None
    n: int | None
    reference: str | None
    why: str | None
    figures: list["CellFigure"]


class CellFigure(msgspec.Struct, frozen=True):
    """A metric of one feature in one window."""

    metric: str
    value: float
    threshold: float | None
    p: float | None
    effect: float | None


class Series(msgspec.Struct, frozen=True):
    """One metric of one version (and group) over event time, as columns of equal length.

    ``low`` and ``high`` bound ``value`` (95 %). ``end_ms`` are the windows' ends, ascending, and
    ``start_ms`` their starts. ``restated`` counts how often a figure was told before as late labels
    came. ``by``: windows cut by the events' time, or by the labels' arrival. ``estimated`` marks
    figures made without labels. ``group`` is ``"field=value"`` or None.
    """

    metric: str
    version: int
    group: str | None
    by: Literal["event", "label"]
    estimated: bool
    start_ms: list[int]
    end_ms: list[int]
    value: list[float]
    low: list[float | None]
    high: list[float | None]
    threshold: list[float | None]
    n: list[int]
    restated: list[int]


class Mark(msgspec.Struct, frozen=True):
    """A vertical line in the pictures over time.

    ``at_ms`` is event time: an alarm's window end, a training's cut-off, the newest event time that
    was known when a version went live. ``alert_key`` leads to the alert.
    """

    kind: Literal["alert", "training", "live", "rolled_back"]
    at_ms: int
    label: str
    version: int | None = None
    alert_key: str | None = None


class Performance(Document, frozen=True, kw_only=True):
    """Performance over event time, of each version. ``metrics`` are the names, the first is shown
    first; ``higher_is_better`` those that rise where the model is better. Where ``whole`` is false,
    series hold only points that are new or restated: merge by (metric, version, group, by) and
    (start_ms, end_ms); ``marks`` and the other lists are whole in any case."""

    whole: bool = True
    metrics: list[str]
    higher_is_better: list[str]
    versions: list[int]
    groups: list[str]
    series: list[Series]
    marks: list[Mark]


class FairnessFigure(msgspec.Struct, frozen=True):
    """A figure of one group, or the gap or ratio between groups (``group`` is then the field's name
    or ``"field=value"`` of the group that stands out)."""

    metric: str
    group: str
    value: float
    low: float | None
    high: float | None
    threshold: float | None
    n: int


class FairnessWindow(msgspec.Struct, frozen=True):
    """All figures of one window and version."""

    start_ms: int
    end_ms: int
    version: int
    restated: int
    figures: list[FairnessFigure]


class Fairness(Document, frozen=True, kw_only=True):
    """Fairness over the declared groups; windows ascend by end. ``fields`` are the group fields,
    ``metrics`` the names of the figures."""

    fields: list[str]
    metrics: list[str]
    windows: list[FairnessWindow]
