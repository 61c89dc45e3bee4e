"""The fold over alerts."""

from serving.dashboard.alert_list import KEPT, AlertList
from tests.serving.dashboard.figures import DAY_MS, alert


def test_a_finding_goes_through_its_states() -> None:
    alerts = AlertList()
    alerts.take(alert("a", 1, "suspected"))
    alerts.take(alert("a", 2, "confirmed", action="retrain"))
    alerts.take(alert("b", 2, "confirmed"))
    assert [a.key for a in alerts.standing()] == ["b", "a"]
    assert {entry.was for entry in alerts.whole().alerts} == {None}
    alerts.take(alert("a", 4, "resolved", value=0.1))
    found = alerts.whole()
    assert found.alerts[1].was == alert("a", 2, "confirmed", action="retrain")
    assert [(entry.key, entry.newest.state) for entry in found.alerts] == [
        ("b", "confirmed"),
        ("a", "resolved"),
    ]
    steps = found.alerts[1].states
    assert [(s.state, s.at_ms, s.action) for s in steps] == [
        ("suspected", DAY_MS, "none: cool-down"),
        ("confirmed", 2 * DAY_MS, "retrain"),
        ("resolved", 4 * DAY_MS, "none: cool-down"),
    ]
    assert (found.standing, found.total) == (1, 4)
    assert [a.key for a in alerts.standing()] == ["b"]


def test_an_alert_that_was_written_twice_counts_once() -> None:
    alerts = AlertList()
    for _ in range(2):
        alerts.take(alert("a", 1))
    assert alerts.whole().total == 1
    assert len(alerts.whole().alerts[0].states) == 1


def test_a_new_excursion_begins_anew() -> None:
    alerts = AlertList()
    for day, state in ((1, "confirmed"), (2, "resolved"), (9, "suspected")):
        alerts.take(alert("a", day, state))  # type: ignore[arg-type]
    assert alerts.whole().alerts[0].since_ms == 9 * DAY_MS


def test_an_alert_of_the_past_has_no_key_and_does_not_stand_for_ever() -> None:
    alerts = AlertList()
    alerts.take(alert("", 1))
    assert alerts.standing() == []
    assert alerts.whole().alerts[0].key == f"data_drift/psi/amount/{DAY_MS}"


def test_confirmed_ones_are_marked_in_event_time() -> None:
    alerts = AlertList()
    alerts.take(alert("a", 1, "suspected"))
    alerts.take(alert("a", 2, "confirmed"))
    alerts.take(alert("h", 2, "confirmed", kind="health", metric="lag"))
    (mark,) = alerts.marks()
    assert (mark.at_ms, mark.alert_key, mark.label) == (
        2 * DAY_MS,
        "a",
        "data drift: psi of amount",
    )


def test_the_memory_is_bounded() -> None:
    alerts = AlertList()
    for i in range(KEPT + 5):
        alerts.take(alert(f"k{i}", 1))
    assert len(alerts.standing()) == KEPT
