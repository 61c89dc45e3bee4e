import numpy as np
import pytest
from scipy.stats import false_discovery_control

from serving.alerting.deciding import adjusted, judge_together, level_per_closing
from tests.serving.alerting.figures import DAY, figure


def test_adjusted_p_values_are_those_of_scipy() -> None:
    chances = np.random.default_rng(7).random(50) ** 3

    assert np.allclose(adjusted(chances), false_discovery_control(chances))
    assert adjusted([]).shape == (0,)


def test_the_level_follows_from_the_alarms_allowed_and_the_number_of_closings() -> None:
    assert level_per_closing(0.1, DAY) * 7 == pytest.approx(0.1)
    assert level_per_closing(0.1, DAY // 24) * 168 == pytest.approx(0.1)
    assert level_per_closing(50, DAY) == 0.05  # no test is easier


def test_a_figure_shows_where_it_matters_and_chance_is_ruled_out() -> None:
    figures = [
        figure("large and sure", excess=2, chance=1e-9),
        figure("small and sure", excess=0.5, chance=1e-9),
        figure("large and unsure", excess=2, chance=0.3),
        figure("no test", excess=1, chance=None),
        figure("never alarms", excess=None, chance=1e-9),
    ]

    judged = {each.finding.metric.feature: each.shows for each in judge_together(figures, 0.01)}

    assert judged == {
        "large and sure": True, "small and sure": False, "large and unsure": False,
        "no test": True, "never alarms": False,
    }  # fmt: skip


def test_one_small_p_value_among_many_figures_is_chance() -> None:
    alone = [figure("a", excess=2, chance=0.005)]
    among = alone + [figure(f"f{i}", excess=0, chance=0.5) for i in range(49)]

    assert judge_together(alone, 0.01)[0].shows
    assert not judge_together(among, 0.01)[0].shows
    assert judge_together(among, 0.01)[0].finding.metric.p_value == 0.25
