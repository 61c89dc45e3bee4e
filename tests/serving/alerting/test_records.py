from serving.alerting.grouping import Told
from serving.alerting.records import RELATED, alert_of
from streams.wire import AlertState
from tests.serving.alerting.figures import figure


def test_a_confirmed_alert_says_what_was_done_and_others_that_nothing_was() -> None:
    lead, others = figure("a"), tuple(figure(f"f{i}") for i in range(30))
    states: tuple[AlertState, ...] = ("suspected", "confirmed", "resolved")
    alerts = [
        alert_of(Told("k", state, "warning", lead, others), "retrain", {}) for state in states
    ]

    assert [a.action for a in alerts] == ["none: suspected", "retrain", "none: resolved"]
    assert {a.key for a in alerts} == {"k"}
    assert len({a.alert_id for a in alerts}) == 3
    assert (alerts[1].feature, alerts[1].value, alerts[1].cause) == ("a", 0.5, "PSI of a is 0.5")
    assert [r.feature for r in alerts[1].related] == [f"f{i}" for i in range(RELATED)]
    assert alerts[1].reference == "model 1"
