"""The policy "roll back", carried out by the process that passes alerts on."""

from contextlib import closing
from typing import Any

import pytest

from serving.alerting.declared import Alerting, Policy
from serving.alerting.notifying import NotifyWorker
from streams.wire import Alert, Registered, StageChanged
from tests.serving.alerting.alert_log import AlertLog, until
from tests.serving.alerting.told_server import an_alert

pytestmark = pytest.mark.broker

ROLL_BACK = Alerting(policies=(Policy("roll back", kinds=("performance",)),))


def live_twice(bootstrap: str) -> AlertLog:
    """Return a log in which model 2 is live, and model 1 was before it."""
    log = AlertLog(bootstrap, ROLL_BACK)
    for version in (1, 2):
        log.append(
            Registered(version, f"c{version}", "", "", {}, {}, None),
            StageChanged(version, "live", "a test", change=version),
        )
    return log


def worse(number: int, state: str = "confirmed", **others: Any) -> Alert:
    return an_alert(number, state, kind="performance", metric="log_loss", **others)


def settle(worker: NotifyWorker, log: AlertLog, *alerts: Alert) -> None:
    """Tell alerts and let the worker read them all."""
    already = len(worker.alerts._seen)
    log.tell(*alerts)
    until(worker, lambda: len(worker.alerts._seen) >= already + len(alerts))


def test_an_alert_about_the_live_version_rolls_it_back_with_its_figures(bootstrap: str) -> None:
    log = live_twice(bootstrap)
    with closing(log.worker()) as worker:
        settle(worker, log, worse(1, "suspected"), an_alert(2), worse(3, severity="info"))
        assert log.by_alert() == []
        settle(worker, log, worse(1))
    (change,) = log.by_alert()
    assert (change.version, change.stage, change.instead) == (2, "rolled_back", 1)
    evidence = (change.evidence or {})["alert"]
    assert (evidence["alert_id"], evidence["value"]) == ("a1-confirmed", 0.41)
    assert log.rollout().live == 1


def test_an_alert_rolls_back_once_while_it_stands_whoever_restarts_and_promotes(
    bootstrap: str,
) -> None:
    log = live_twice(bootstrap)
    with closing(log.worker()) as worker:
        settle(worker, log, worse(1))
    log.append(StageChanged(2, "live", "I know better", by="operator", change=4))
    with closing(log.worker()) as worker:
        settle(worker, log, worse(1, alert_id="again"))
        assert log.rollout().live == 2
        settle(worker, log, worse(1, "resolved"), worse(1, alert_id="anew"))
    assert [c.version for c in log.by_alert()] == [2, 2]


def test_an_alert_confirmed_while_nobody_worked_rolls_back_unless_it_is_over(
    bootstrap: str,
) -> None:
    for is_over in (True, False):
        log = live_twice(bootstrap)
        log.tell(worse(1), *([worse(1, "resolved")] if is_over else []))
        log.worker().close()
        assert len(log.by_alert()) == (0 if is_over else 1)
