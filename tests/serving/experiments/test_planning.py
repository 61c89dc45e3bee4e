"""Plans: what comes from the outcomes in the log, and what the log keeps."""

import numpy as np
import pytest

from serving.experiments.metrics import metric_of
from serving.experiments.planning import Plan, Wish, plan_of
from serving.experiments.reading import Readings
from serving.experiments.sums import Sums
from streams.errors import ConfigurationError
from streams.wire import Routing
from tests.serving.monitored import End
from training.networks.tasks import Binary

DAY = 86_400_000
LABEL, EVER = (metric_of(text, Binary(), End) for text in ("label", "label/ever"))
VALUES = np.array([0.0, 0.5, 1.0, 0.5])


def readings(entities: int = 400, days: float = 8.0) -> Readings:
    """Entities with two outcomes each, seen last one after the other in equal steps."""
    found = Readings(Routing(1), during=[Sums()])
    numbers = found.entities.numbers_of([f"e{n}" for n in range(entities)])
    for half in (0.0, 0.5):
        values = (np.resize(VALUES, entities) > half).astype(np.float64)
        found.during[0].add(numbers, values)
    times = (np.arange(entities) / (entities - 1) * days * DAY).astype(np.int64) + 1
    found.entities.see(numbers, times)
    found.first_ms, found.last_ms, found.outcomes = 1, int(times[-1]), 2 * entities
    return found


def test_the_outcomes_tell_baseline_spread_and_duration() -> None:
    plan = plan_of([LABEL], Wish(effect=0.1, relative=True), readings())
    values = np.resize(np.array([0.0, 0.5, 1.0, 0.5]), 400)
    assert plan.baseline == pytest.approx(values.mean())
    assert plan.sigma == pytest.approx(values.std(ddof=1))
    assert plan.effect == pytest.approx(0.1 * values.mean())
    assert plan.method == "means"
    assert plan.total > 400
    assert plan.days == pytest.approx(plan.total / 50, rel=0.01)
    assert "the log knows 400 entities only" in plan.sources
    fewer = plan_of([LABEL], Wish(effect=0.2), readings())
    assert fewer.days == pytest.approx(8 * fewer.total / 400, rel=0.05)
    assert "the last" in fewer.sources


def test_a_share_of_entities_is_planned_as_one() -> None:
    plan = plan_of([EVER], Wish(effect=0.05), readings())
    assert plan.baseline == pytest.approx(0.75)
    assert (plan.sigma, plan.method) == (None, "proportions, pooled")


def test_what_is_stated_goes_before() -> None:
    stated = Wish(0.1, sigma=1.0, baseline=3.0, treatments=2, share=0.2, days=3.0)
    plan = plan_of([LABEL, EVER], stated, readings())
    assert (plan.sigma, plan.baseline, plan.days) == (1.0, 3.0, 3.0)
    assert plan.control == pytest.approx(3 * plan.treatment, abs=3)
    assert plan.aim.comparisons == 4
    assert plan.total == plan.control + 2 * plan.treatment


def test_the_plan_comes_back_from_the_log() -> None:
    plan = plan_of([LABEL], Wish(0.1, sigma=1.0), None)
    assert plan.days is None
    assert Plan.from_json(plan.to_json()) == plan
    for content in ({}, {**plan.to_json(), "colour": 1}):
        with pytest.raises(ConfigurationError, match="can't be read"):
            Plan.from_json(content)


def test_without_outcomes_the_spread_has_to_be_stated() -> None:
    for found in (None, Readings(Routing(1), during=[Sums()])):
        with pytest.raises(ConfigurationError, match="state --sigma"):
            plan_of([LABEL], Wish(0.1), found)
