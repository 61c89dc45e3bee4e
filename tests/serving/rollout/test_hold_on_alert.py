"""The policy "hold rollout": while an alert stands nothing is promoted."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from serving.alerting.declared import Alerting, Policy
from streams.kafka_client import producer
from streams.wire import Alert, Judged
from tests.serving.alerting.told_server import an_alert
from tests.serving.rollout.rollout_log import RolloutLog

pytestmark = pytest.mark.broker
STEP = 1_000


def tell(log: RolloutLog, *alerts: Alert) -> None:
    client = producer(log.bootstrap, linger_ms=0)
    for alert in alerts:
        client.produce(log.pipeline.topics.alerts, msgspec.json.encode(alert), b"k", 0)
    assert client.flush(30) == 0


def test_a_standing_alert_holds_a_version_and_the_log_says_so(
    bootstrap: str, tmp_path: Path
) -> None:
    log = RolloutLog.new(bootstrap, {1: 1.0, 2: 0.3})
    alerting = Alerting(policies=(Policy("hold rollout", kinds=("data_drift",)),))
    log.pipeline = replace(log.pipeline, alerting=alerting, features=log.pipeline.definitions)
    log.to_shadow(2)
    tell(log, an_alert(1), an_alert(2, "suspected"), an_alert(3, kind="performance"))
    with closing(log.worker(tmp_path)) as worker:
        log.play(2 * STEP)
        log.drain(worker)
        held = log.rollout().judged[2, "shadow"]
        assert (held.verdict, held.evidence["rule"]) == ("hold", "alert")
        assert held.evidence["alert"]["alert_id"] == "a1-confirmed"
        assert held.reason.startswith("alert: PSI of f1 is 0.41: waits; ")
        told = [e for e in log.events() if isinstance(e, Judged) and e.evidence["rule"] == "alert"]
        assert len(told) == 1  # not at each look
        assert log.changes(2) == []

        tell(log, an_alert(1, "resolved"))
        log.play(STEP)
        log.drain(worker)
    assert [s.stage for s in log.changes(2)] == ["canary"]


def test_a_standing_alert_does_not_hold_what_goes_back(bootstrap: str, tmp_path: Path) -> None:
    log = RolloutLog.new(bootstrap, {1: 0.3, 2: 1.2})
    alerting = Alerting(policies=(Policy("hold rollout"),))
    log.pipeline = replace(log.pipeline, alerting=alerting, features=log.pipeline.definitions)
    log.to_shadow(2)
    tell(log, an_alert(1))
    with closing(log.worker(tmp_path)) as worker:
        for _ in range(10):
            log.play(STEP)
            log.drain(worker)
            if log.changes(2):
                break
    assert [s.stage for s in log.changes(2)] == ["rolled_back"]
