"""Which alerts stand, and who is told of what."""

import pytest

from serving.alerting.declared import Policy
from serving.alerting.standing import Alerts
from streams.wire import Severity
from tests.serving.alerting.told_server import an_alert


def test_an_alert_stands_from_confirmed_to_resolved_and_that_is_told() -> None:
    alerts = Alerts()
    records = [
        an_alert(1, "suspected"),
        an_alert(1, "confirmed"),
        an_alert(2, "suspected"),
        an_alert(1, "resolved"),
        an_alert(2, "resolved"),  # was never confirmed
    ]
    told = [alerts.take(alert, offset) for offset, alert in enumerate(records)]
    assert told == [False, True, False, True, False]
    assert alerts.standing == {}


def test_a_repetition_is_no_news_and_changes_nothing() -> None:
    alerts = Alerts()
    assert alerts.take(an_alert(1), 3)
    assert alerts.take(an_alert(1, "resolved"), 4)
    assert not alerts.take(an_alert(1), 5)  # a monitor that was restarted told it again
    assert alerts.standing == {}


def test_a_confirmed_alert_that_is_told_anew_stands_since_the_first_time() -> None:
    alerts = Alerts()
    alerts.take(an_alert(1), 3)
    assert alerts.take(an_alert(1, alert_id="later", severity="critical"), 8)
    (standing,) = alerts.standing.values()
    assert (standing.since_offset, standing.alert.severity) == (3, "critical")


def test_a_record_without_a_key_is_told_and_does_not_stand() -> None:
    alerts = Alerts()
    assert alerts.take(an_alert(1, key=""), 0)
    assert alerts.standing == {}


@pytest.mark.parametrize(
    ("kinds", "severity", "n"),
    [
        (("data_drift",), "warning", 1),
        (("data_drift",), "info", 1),
        (("data_drift",), "critical", 0),
        (("performance",), "info", 0),
    ],
)
def test_a_policy_concerns_its_kinds_and_its_severity(
    kinds: tuple[str, ...], severity: Severity, n: int
) -> None:
    alerts = Alerts()
    alerts.take(an_alert(1), 0)
    assert len(alerts.of([Policy("hold rollout", kinds, severity)])) == n  # type: ignore[arg-type]
