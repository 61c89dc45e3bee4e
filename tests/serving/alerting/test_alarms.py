"""From figures to alerts: suspected, confirmed, grouped, resolved, each told once."""

from dataclasses import replace

import msgspec
import pytest

from serving.alerting.alarms import Alarms
from serving.alerting.declared import Alerting
from serving.alerting.grouping import Told
from tests.serving.alerting.figures import DAY, figure


def _told(days: list[dict[str, float]], alerting: Alerting | None = None) -> list[list[str]]:
    """Return what is told at each day, where features exceed their threshold so many times."""
    alarms = Alarms(alerting or Alerting(), DAY)
    return [_texts(_close(alarms, day, excesses)) for day, excesses in enumerate(days, 1)]


def _close(alarms: Alarms, day: int, excesses: dict[str, float]) -> list[Told]:
    figures = [figure(name, excess, day=day) for name, excess in excesses.items()]
    return alarms.close(figures, day * DAY).told


def _texts(told: list[Told]) -> list[str]:
    return [
        " ".join([t.state, str(t.lead.metric.feature), *(str(r.metric.feature) for r in t.related)])
        for t in told
    ]


@pytest.mark.parametrize(
    ("course", "told"),
    [
        ([2, 2, 2], ["suspected", "confirmed", ""]),
        ([2, 0.5, 2, 2], ["suspected", "resolved", "suspected", "confirmed"]),
        ([2, 0.9, 2, 2], ["suspected", "", "confirmed", ""]),
        ([2, 0.9, 0.9, 0.9, 0.9], ["suspected", "", "", "resolved", ""]),
        ([2, 2, 0.9, 0.9, 0.9, 2, 0.7, 0.7], ["suspected", "confirmed", *[""] * 4, "resolved", ""]),
        ([0.9, 0.9], ["", ""]),
    ],
    ids=["stands", "comes back", "wavers", "was nothing", "lower bound to resolve", "calm"],
)
def test_each_state_is_told_once(course: list[float], told: list[str]) -> None:
    said = _told([{"a": excess} for excess in course])

    assert [" ".join(texts).removesuffix(" a") for texts in said] == told


def test_figures_that_leave_their_bounds_together_are_one_alert_led_by_the_largest() -> None:
    said = _told([{"a": 2, "b": 3, "c": 0.2}] * 3)

    assert said == [["suspected b a"], ["confirmed b a"], []]


def test_what_follows_within_a_window_joins_and_what_comes_later_is_another_change() -> None:
    days = [{"a": 2.0, "b": 0.2}] * 3 + [{"a": 2.0, "b": 2.0}] * 3 + [{"a": 2.0, "b": 0.2}]
    assert _told(days) == [["suspected a"], ["confirmed a"], [], [], ["confirmed a b"], [], []]

    days = [{"a": 2.0, "b": 0.2}] * 7 + [{"a": 2.0, "b": 2.0}] * 2
    assert _told(days)[7:] == [["suspected b"], ["confirmed b"]]


def test_what_joins_a_standing_alert_is_told_once_under_its_key_and_is_no_new_alert() -> None:
    alarms = Alarms(Alerting(), DAY)
    told = [t for day in (1, 2) for t in _close(alarms, day, {"a": 2.0, "c": 1.5})]
    told += [
        t for day in (3, 4, 5) for t in _close(alarms, day, {"a": 2.0, "b": 3.0, "c": 1.5})
    ]  # fmt: skip

    assert _texts(told) == ["suspected a c", "confirmed a c", "confirmed b a c"]
    assert len({t.key for t in told}) == 1
    assert [t.again for t in told] == [False, False, True]
    assert [[f.metric.feature for f in t.joined] for t in told] == [[], [], ["b"]]


def test_a_suspected_figure_named_with_an_alert_is_not_told_again_when_it_is_confirmed() -> None:
    days = [{"a": 2.0}, {"a": 2.0, "b": 1.5}, {"a": 2.0, "b": 1.5}]

    assert _told(days) == [["suspected a"], ["confirmed a b"], []]

    # Nor where the alert was told without it in between.
    away = [{"a": 2.0, "b": 0.9, "c": 1.5}] * 2
    days = [days[0], days[1], *away, *[{"a": 2.0, "b": 1.5, "c": 1.5}] * 2]
    assert [texts for texts in _told(days)[2:] if texts] == [["confirmed a c"]]


def test_a_figure_that_comes_back_while_its_alert_stands_joins_it_again_however_late() -> None:
    days = [{"a": 2.0, "b": 3.0}] * 2 + [{"a": 2.0, "b": 0.1}] * 20 + [{"a": 2.0, "b": 3.0}] * 3

    assert [texts for texts in _told(days) if texts] == [
        ["suspected b a"],
        ["confirmed b a"],
        ["confirmed b a"],
    ]
    over = [{"a": 0.1, "b": 3.0}, {"a": 0.1, "b": 0.1}, {"a": 0.1, "b": 3.0}]
    assert [texts for texts in _told(days + over) if texts][3:] == [["resolved b"], ["suspected b"]]


def test_an_alert_is_resolved_as_severe_as_it_was_told() -> None:
    """Who is told of critical alerts alone is told of their end, whichever figure is the last."""
    alarms, told = Alarms(Alerting(), DAY), []
    for day, worst in enumerate((5.0, 5.0, 0.1, 0.1), 1):
        low = figure("b", 2.0 if day < 4 else 0.1, day=day)
        high = replace(figure("a", worst, day=day), severity="critical")
        told += alarms.close([low, high], day * DAY).told

    assert [(t.state, t.severity) for t in told] == [
        ("suspected", "info"),
        ("confirmed", "critical"),
        ("resolved", "critical"),
    ]


def test_an_alert_that_is_told_again_is_no_less_severe_than_before() -> None:
    alarms, told = Alarms(Alerting(), DAY), []
    for day in range(1, 5):
        a = figure("a", 5.0 if day < 3 else 1.5, day=day)
        a = replace(a, severity="critical") if day < 3 else a
        told += alarms.close([a, figure("b", 2.0 if day > 2 else 0.1, day=day)], day * DAY).told

    assert _texts(told) == ["suspected a", "confirmed a", "confirmed b a"]
    assert told[-1].severity == "critical"


def test_an_alert_is_resolved_with_the_last_of_its_figures() -> None:
    days = [{"a": 2.0, "b": 3.0}] * 2 + [{"a": 2.0, "b": 0.1}, {"a": 0.1, "b": 0.1}]

    assert _told(days)[2:] == [[], ["resolved a"]]


def test_a_standing_alert_is_told_again_where_it_has_grown_after_its_window() -> None:
    rising = [{"a": 1.0 + day} for day in range(7)]  # as a window slides over one change
    said = _told(rising + [{"a": 7.0}] * 3 + [{"a": 20.0}] * 3)

    assert [texts for texts in said if texts] == [["suspected a"], ["confirmed a"], ["confirmed a"]]
    assert said[11] == ["confirmed a"]  # the second day of the second change


def test_what_falls_and_rises_again_or_may_be_chance_has_not_grown() -> None:
    course = [7.0] * 5 + [2.0] * 5 + [10.0] * 3
    assert [texts for texts in _told([{"a": x} for x in course]) if texts] == [
        ["suspected a"],
        ["confirmed a"],
    ]

    alarms, told = Alarms(Alerting(), DAY), []
    for day in range(1, 14):
        by_chance = figure("a", 9.0, chance=0.5, day=day)
        told += alarms.close([figure("a", day=day) if day < 10 else by_chance], day * DAY).told
    assert _texts(told) == ["suspected a", "confirmed a"]


def test_kinds_are_told_apart_and_harm_is_told_of_all() -> None:
    alarms = Alarms(Alerting(confirm=(1, 1)), DAY)
    figures = [
        figure("a", 5),
        figure("loss", 2, kind="performance", impact=0.3),
        figure("change", 2, kind="concept_drift", impact=0.1),
    ]

    told = alarms.close(figures, 7 * DAY).told

    assert [(t.lead.kind, t.state, t.impact) for t in told] == [
        ("data_drift", "confirmed", 0.3),
        ("performance", "confirmed", 0.3),
        ("concept_drift", "confirmed", 0.1),  # its own
    ]


def test_a_confirmed_alert_about_answers_names_the_inputs_out_of_bounds_with_it() -> None:
    alarms = Alarms(Alerting(), DAY)
    told = []
    for day in (7, 8):
        figures = [figure("loss", 2, kind="performance", day=day), figure("calm", 0.5, day=day)]
        figures += [figure(name, excess, day=day) for name, excess in (("a", 2), ("b", 3))]
        told += alarms.close(figures, day * DAY).told

    assert _texts(told) == [
        "suspected loss",
        "suspected b a",
        "confirmed loss b a",
        "confirmed b a",
    ]


def test_a_figure_without_bounds_neither_raises_nor_resolves() -> None:
    alarms = Alarms(Alerting(), DAY)
    for day in (7, 8):
        alarms.close([figure("a", day=day), figure("a", excess=None, day=day)], day * DAY)

    standing = alarms.close([figure("a", day=9), figure("a", excess=None, day=9)], 9 * DAY)

    assert [f.metric.feature for f in standing.standing] == ["a"]
    assert not standing.told


def test_what_is_not_measured_any_more_is_resolved_after_its_window() -> None:
    said = _told([{"a": 2.0}] * 2 + [{"b": 0.1}] * 7)

    assert said[-2:] == [[], ["resolved a"]]

    # What is measured now and then, such as of a group with few events, is not forgotten.
    days = [{"a": 2.0}] * 2 + [*[{"b": 0.1}] * 6, {"a": 0.9}] * 2
    assert [texts for texts in _told(days) if texts] == [["suspected a"], ["confirmed a"]]


def test_a_restart_changes_nothing() -> None:
    course = [{"a": x, "b": 2 - x} for x in (2.0, 2.0, 1.5, 0.7, 0.1, 2.0, 2.0, 0.1)]
    through = _told(course)
    alarms, again = Alarms(Alerting(), DAY), []
    for day, excesses in enumerate(course, 1):
        kept = msgspec.json.decode(msgspec.json.encode(alarms.to_json()))
        alarms = Alarms(Alerting(), DAY)
        alarms.load(kept)
        again.append(_texts(_close(alarms, day, excesses)))

    assert again == through
    assert any(through)
