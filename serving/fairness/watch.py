"""Fairness as a watch: the groups' figures side by side, over windows of labels' arrival."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from msgspec.structs import replace as changed
from numpy.typing import NDArray

from serving.alerting.finding import Finding
from serving.fairness.comparing import Comparison, largest_difference, ratio_to_highest
from serving.fairness.names import CALIBRATION_GAP, DIFFERENCES, SELECTION_RATE, SELECTION_RATIO
from serving.fairness.rates import Mean, Share, classes_of, contributions, figures
from serving.monitoring.cells import add_up
from serving.monitoring.groups import Groups
from serving.monitoring.judging import LiveModel
from serving.monitoring.matching import Matches
from serving.monitoring.watch import Watch
from serving.monitoring.windows import StepSums
from serving.performance.intervals import FEWEST_STEPS
from serving.performance.packing import pack, unpack
from serving.performance.slices import families, key_of, slice_of
from serving.spec import Fairness
from streams.durations import seconds
from streams.errors import DefinitionError
from streams.wire import Metric, Window
from training.networks.tasks import MultiClass, Regression, Task


class FairnessWatch(Watch):
    """Rates of every version by group; those of the live version may alarm.

    Figures are judged once they are of :data:`serving.performance.intervals.FEWEST_STEPS` steps, or
    of a whole window that has fewer: from then on the groups' days say how far they differ by
    themselves. Of several classes the ratio of selection raises no alarm: which class one wants to
    be in, nobody has said.

    Raises:
        DefinitionError: the definition declares no such group.
    """

    def __init__(self, monitor: Fairness, task: Task, step_ms: int, groups: Groups) -> None:
        self._monitor, self._task, self._groups = monitor, task, groups
        self._step_ms, self._sums = step_ms, StepSums(step_ms)
        unknown = sorted(set(monitor.groups or ()).difference(groups.fields))
        if unknown or not groups.fields:
            raise DefinitionError(
                f"Fairness compares groups that the definition declares: groups={groups.fields} "
                f"lacks {', '.join(unknown) or 'any'}; declare them, as groups=('user_type',)"
            )

    def add_matches(self, matches: Matches) -> None:
        """Take predictions whose labels have come."""
        if not len(matches):
            return
        decision = self._monitor.decision
        rows = contributions(matches.scores, matches.labels, self._task, decision)
        fields = self._groups.fields if self._monitor.groups is None else self._monitor.groups
        for family in families(matches, self._groups, self._step_ms, fields):
            totals = add_up(family.cells, len(family.of), rows)
            for (version, group, arrived, _), total in zip(family.of, totals, strict=True):
                self._sums.add_total(key_of(version, group), arrived, total)

    def close(self, live: LiveModel, end_ms: int) -> list[Finding]:
        """Return each group's figures, and how far apart the groups of a field are."""
        length_ms = seconds(self._monitor.window) * 1000
        window = Window(end_ms - length_ms, end_ms)
        needed = min(FEWEST_STEPS, length_ms // self._step_ms)
        fields: dict[tuple[int, str], dict[str, Any]] = {}
        for key in self._sums.names():
            version, group = slice_of(key)
            steps = self._sums.steps(key, window.start_ms, end_ms)[1]
            if len(steps) and int(steps[:, 0].sum()) >= self._monitor.minimum:
                field = group.partition("=")[0]
                fields.setdefault((version, field), {})[group] = steps
        findings: list[Finding] = []
        for (version, field), groups in fields.items():
            for number, name in enumerate(classes_of(self._task)):
                found = {g: figures(steps, self._task, number) for g, steps in groups.items()}
                told = list(self._of_field(found, field, name, version, window))
                if version != live.version or not version:
                    told = list(map(_quiet, told))
                elif min(int((steps[:, 0] > 0).sum()) for steps in groups.values()) < needed:
                    told = list(map(_early, told))
                findings += told
        return findings

    def forget(self, before_ms: int) -> None:
        """Steps that begin before are in no window any more."""
        self._sums.drop_before(before_ms)

    def snapshot(self) -> tuple[Any, Mapping[str, NDArray[Any]]]:
        """Return (JSON, arrays)."""
        return pack(self._sums, "sums")

    def load(self, content: Any, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take over what :meth:`snapshot` returned."""
        self._sums = unpack(self._step_ms, content, arrays, "sums")

    # Inside

    def _of_field(
        self,
        found: Mapping[str, Mapping[str, Share | Mean]],
        field: str,
        name: str | None,
        version: int,
        window: Window,
    ) -> Iterator[Finding]:
        """Yield the findings of one field's groups, of one class (or None)."""
        for group, by_name in found.items():
            for metric, figure in by_name.items():
                told = figure.bounds
                yield Finding(
                    "fairness",
                    Metric(
                        metric, name, told.value, None, figure.n, window, version, group=group,
                        low=told.low, high=told.high, by="label",
                    ),
                )  # fmt: skip
        blank = Metric("", name, 0.0, None, 0, window, version, by="label")
        selected = {
            group: share
            for group, by_name in found.items()
            if isinstance(share := by_name.get(SELECTION_RATE), Share)
        }
        for group in selected:
            ratio = ratio_to_highest(selected, group)
            if ratio is not None:
                yield self._ratio(ratio, selected, blank)
        for metric, difference in DIFFERENCES.items():
            sides = {g: by_name[metric] for g, by_name in found.items() if metric in by_name}
            apart = largest_difference(sides)
            if apart is not None:
                yield self._difference(apart, sides, metric, difference, field, blank)

    def _ratio(self, found: Comparison, rates: Mapping[str, Share], blank: Metric) -> Finding:
        rule, value = self._monitor.ratio, found.bounds.value
        metric = _filled(blank, SELECTION_RATIO, found, found.low, rule)
        if rule is None or isinstance(self._task, MultiClass):
            return Finding("fairness", changed(metric, threshold=None))
        excess = (1 - value) / (1 - rule) if rule < 1 else float(value < 1)
        low, high = (rates[group].bounds.value for group in (found.low, found.high))
        cause = (
            f"model {metric.model_version} selects {low:.1%} of {found.low} and {high:.1%} of "
            f"{found.high}: a ratio of {value:.2f}, below {rule:g} (n={found.n:,} in the smaller "
            "group)"
        )
        return Finding("fairness", metric, excess, found.chance, cause if excess >= 1 else None)

    def _difference(
        self,
        found: Comparison,
        sides: Mapping[str, Share | Mean],
        figure: str,
        name: str,
        field: str,
        blank: Metric,
    ) -> Finding:
        monitor, value = self._monitor, found.bounds.value
        allowed = monitor.calibration_gap if figure == CALIBRATION_GAP else monitor.gap
        metric = _filled(blank, name, found, field, allowed)
        if not allowed:
            return Finding("fairness", changed(metric, threshold=None))
        low, high = (_shown(sides[group]) for group in (found.low, found.high))
        of_class = "" if blank.feature is None else f" for class {blank.feature}"
        unit = " spreads" if isinstance(self._task, Regression) else ""
        cause = (
            f"{figure.replace('_', ' ')} of model {metric.model_version}{of_class} is {low} for "
            f"{found.low} and {high} for {found.high}: {value:.3g}{unit} apart, above {allowed:g} "
            f"(n={found.n:,} in the smaller group)"
        )
        excess = value / allowed
        return Finding("fairness", metric, excess, found.chance, cause if excess >= 1 else None)


def _filled(
    blank: Metric, name: str, found: Comparison, group: str, threshold: float | None
) -> Metric:
    bounds = found.bounds
    return changed(
        blank, metric=name, value=bounds.value, low=bounds.low, high=bounds.high, n=found.n,
        group=group, threshold=threshold, effect=bounds.value,
    )  # fmt: skip


def _shown(figure: Share | Mean) -> str:
    return f"{figure.bounds.value if isinstance(figure, Share) else figure.value:.3g}"


def _early(finding: Finding) -> Finding:
    """Return a figure of too few steps to know how they differ among themselves: told, not judged.
    Over four days in which a few customers rode in the rain, chance alone would look impossible."""
    return replace(finding, excess=None, cause=None)


def _quiet(finding: Finding) -> Finding:
    """Return the figure of a version that is not live, or of the stated prior: it never alarms."""
    metric = changed(finding.metric, threshold=None)
    return replace(finding, metric=metric, excess=None, chance=None, cause=None)
