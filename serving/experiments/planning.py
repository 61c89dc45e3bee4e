"""The plan of an experiment: what it is to find, how many entities that takes, and how long."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from serving.experiments.metrics import Metric, of_entities
from serving.experiments.reading import Readings
from serving.experiments.sizing import (
    Aim,
    Sizes,
    absolute,
    days_for,
    for_means,
    for_proportions,
    span_for,
)
from streams.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Wish:
    """What the operator asks for; None: from the outcomes in the log.

    ``effect`` is a share of the baseline where ``relative``; ``share`` goes to each of
    ``treatments`` (None: equal arms); ``rate`` is of new entities per day, ``days`` how long it
    shall run.
    """

    effect: float
    relative: bool = False
    alpha: float = 0.05
    power: float = 0.8
    baseline: float | None = None
    sigma: float | None = None
    treatments: int = 1
    share: float | None = None
    rate: float | None = None
    days: float | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What an experiment is to find, as it stands in the log.

    ``metrics`` are named as on the command line, the first decides. ``effect`` is absolute,
    ``control`` and ``treatment`` are entities per arm, ``days`` event time (None: nothing tells).
    ``method`` says which formula gave the sizes, ``sources`` where the figures come from.
    """

    metrics: tuple[str, ...]
    effect: float
    alpha: float
    power: float
    baseline: float | None
    sigma: float | None
    treatments: int
    control: int
    treatment: int
    days: float | None
    method: str
    sources: str

    @property
    def aim(self) -> Aim:
        """What each comparison is to find: of every treatment in every metric."""
        return Aim(self.effect, self.alpha, self.power, self.treatments, len(self.metrics))

    @property
    def total(self) -> int:
        """Entities in all arms."""
        return self.control + self.treatments * self.treatment

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {**asdict(self), "metrics": list(self.metrics)}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Plan":
        """Return the plan of :meth:`to_json`.

        Raises:
            ConfigurationError: it is another one's, or of another version.
        """
        try:
            return cls(**{**content, "metrics": tuple(content["metrics"])})
        except (KeyError, TypeError) as error:
            raise ConfigurationError(
                f"the experiment's plan in the log can't be read ({error}): it was not started by "
                "kappa experiment start of this version"
            ) from error


def plan_of(metrics: list[Metric], wish: Wish, readings: Readings | None) -> Plan:
    """Return the plan; ``readings`` are the outcomes so far, of the first metric at least.

    Raises:
        ConfigurationError: a figure is wanted that neither the operator nor the log tells.
    """
    primary = metrics[0]
    baseline, sigma, told = _figures(primary, wish, readings)
    effect = absolute(wish.effect, baseline, wish.relative)
    aim = Aim(effect, wish.alpha, wish.power, wish.treatments, len(metrics))
    if sigma is not None:
        sizes, method = for_means(aim, sigma, wish.share), "means"
    elif baseline is not None and primary.is_share:
        sizes, method = for_proportions(aim, baseline, wish.share), "proportions, pooled"
    else:
        raise ConfigurationError(
            f"metric {primary.text}: how much entities differ is not known, as the log holds no "
            "outcomes of two entities yet; state --sigma (or, of a share, --baseline)"
        )
    days, how_long = _days(sizes, wish, readings)
    return Plan(
        metrics=tuple(metric.text for metric in metrics),
        effect=effect,
        alpha=wish.alpha,
        power=wish.power,
        baseline=baseline,
        sigma=sigma,
        treatments=wish.treatments,
        control=math.ceil(sizes.control),
        treatment=math.ceil(sizes.treatment),
        days=days,
        method=method,
        sources="; ".join(part for part in (told, how_long) if part),
    )


def _figures(
    metric: Metric, wish: Wish, readings: Readings | None
) -> tuple[float | None, float | None, str]:
    """Return baseline, standard deviation over entities, and where they come from.

    A share whose baseline is stated needs no deviation: it follows.
    """
    if wish.sigma is not None or (wish.baseline is not None and metric.is_share):
        return wish.baseline, wish.sigma, "stated"
    if readings is None:
        return wish.baseline, None, ""
    counts, sums = readings.during[0].of(len(readings.entities))
    there = counts > 0
    if there.sum() < 2:
        return wish.baseline, None, ""
    values = of_entities(metric.unit, counts[there], sums[there])
    told = (
        f"from {int(counts.sum()):,} outcomes of {int(there.sum()):,} entities in "
        f"{readings.days:.1f} days"
    )
    baseline = float(values.mean()) if wish.baseline is None else wish.baseline
    if metric.unit == "ever" and 0 < baseline < 1:
        return baseline, None, told
    return baseline, float(values.std(ddof=1)), told


def _days(sizes: Sizes, wish: Wish, readings: Readings | None) -> tuple[float | None, str]:
    """Return how many days bring so many entities, and what that is made of."""
    if wish.days is not None:
        return wish.days, "duration as stated"
    if wish.rate is not None:
        if not wish.rate > 0:
            raise ConfigurationError(f"rate {wish.rate:g}: new entities per day, above 0")
        return days_for(sizes.total, wish.rate), f"{wish.rate:g} new entities per day"
    if readings is None or not len(readings.entities) or readings.days <= 0:
        return None, ""
    last = readings.entities.last_ms
    seen: list[int] = np.asarray(last).tolist()
    days = span_for(sizes.total, seen, readings.last_ms)
    if days is not None:
        return days, f"the last {days:.1f} days brought {sizes.total:,} entities"
    per_day = len(seen) / readings.days
    return days_for(sizes.total, per_day), (
        f"the log knows {len(seen):,} entities only: it takes {sizes.total:,}, at "
        f"{per_day:,.1f} per day so far"
    )
