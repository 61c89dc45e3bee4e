"""A metric of the arms compared: as it is, after CUPED, and as it came to be."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.experiments.analysis import Adjusted, Effect, compare, cuped
from serving.experiments.metrics import Metric, Unit, of_entities
from serving.experiments.reading import Readings
from serving.experiments.sizing import Aim
from streams.wire import Routing

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Compared:
    """One metric of one treatment: as it is, and with what was known before taken out (CUPED)."""

    metric: Metric
    version: int
    plain: Effect
    adjusted: Effect
    theta: float
    reduction: float
    known: float

    def shows(self, alpha: float, reached: bool) -> int:
        """Return 1 where the treatment is shown to be better, −1 worse, 0 neither."""
        found = self.adjusted
        sure = found.sequential.low > 0 or found.sequential.high < 0
        if not sure and not (reached and found.holm < alpha):
            return 0
        return 1 if (found.difference.mean > 0) == self.metric.higher else -1


@dataclass(frozen=True, slots=True)
class Moment:
    """The primary metric up to a moment of event time: arms' means with errors, and effects."""

    time_ms: int
    means: list[tuple[float, float]]
    effects: list[Effect]


def adjusted_values(
    unit: Unit,
    during: tuple[Floats, Floats],
    before: tuple[Floats, Floats],
    arms: Ints,
    treatments: int,
) -> tuple[list[Floats], Adjusted]:
    """Return the entities' values by arm, control first, and the same after CUPED.

    ``during`` and ``before`` are counts and sums, (entities,) each.
    """
    (counts, sums), (past_counts, past_sums) = during, before
    past = np.full(len(counts), np.nan)
    known = past_counts > 0
    past[known] = of_entities(unit, past_counts[known], past_sums[known])
    rows = [np.flatnonzero((arms == arm) & (counts > 0)) for arm in range(-1, treatments)]
    values = [of_entities(unit, counts[own], sums[own]) for own in rows]
    return values, cuped(values, [past[own] for own in rows])


def spread_within(arms: list[Floats]) -> float:
    """Return the standard deviation between entities within the arms; 0 where there are too few."""
    freedom = sum(len(own) - 1 for own in arms if len(own))
    squares = sum(float(np.sum((own - own.mean()) ** 2)) for own in arms if len(own))
    return (squares / freedom) ** 0.5 if freedom > 0 else 0.0


def compare_arms(
    metric: Metric, routing: Routing, values: list[Floats], adjusted: Adjusted, aim: Aim
) -> list[Compared]:
    """Return what each treatment changes in a metric; ``values`` by arm, control first."""
    return [
        Compared(
            metric,
            arm.version,
            compare(values[0], values[place], aim),
            compare(adjusted.arms[0], adjusted.arms[place], aim),
            adjusted.theta,
            adjusted.reduction,
            adjusted.known,
        )
        for place, arm in enumerate(routing.arms, start=1)
    ]


def course_of(readings: Readings, metric: Metric, aim: Aim) -> list[Moment]:
    """Return how the primary metric came to be what it is, after CUPED."""
    n, treatments = len(readings.entities), len(readings.routing.arms)
    before = readings.before[0].of(n)
    moments = []
    for end_ms, counts, sums in readings.course.cumulated(n):
        _, adjusted = adjusted_values(
            metric.unit, (counts, sums), before, readings.arms, treatments
        )
        if min(map(len, adjusted.arms)) < 2:
            continue
        effects = [compare(adjusted.arms[0], own, aim) for own in adjusted.arms[1:]]
        found = [effects[0].control, *(effect.treatment for effect in effects)]
        means = [(each.mean, each.error) for each in found]
        moments.append(Moment(min(end_ms, readings.last_ms), means, effects))
    return moments
