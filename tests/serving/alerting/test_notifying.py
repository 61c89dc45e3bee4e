"""The process that passes alerts on: a real broker, real servers."""

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from serving.alerting.declared import Alerting, Alertmanager, Policy, Webhook
from serving.alerting.holding import Holds
from streams.errors import BrokerError, ConfigurationError
from streams.kafka_client import producer
from tests.serving.alerting.alert_log import AlertLog, done, ids, until
from tests.serving.alerting.told_server import ToldServer, an_alert, told_server

pytestmark = pytest.mark.broker


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def server() -> Iterator[ToldServer]:
    with told_server() as running:
        yield running


def test_alerts_are_sent_in_order_by_severity_and_only_what_was_confirmed(
    bootstrap: str, server: ToldServer
) -> None:
    alerting = Alerting(notify=(Webhook(server.url),), dashboard="https://kappa.example.org")
    log = AlertLog(bootstrap, alerting)
    with closing(log.worker()) as worker:
        log.tell(
            an_alert(1, "suspected"),
            an_alert(1),
            an_alert(2, severity="info"),
            an_alert(3, severity="critical", link="https://elsewhere.example.org"),
            an_alert(1),  # told again by a restarted monitor
            an_alert(1, "resolved"),
        )
        until(worker, lambda: len(server.taken) >= 3 and done(worker))
    assert ids(server) == ["a1-confirmed", "a3-confirmed", "a1-resolved"]
    page = "https://kappa.example.org/#alerts/data_drift%2Fpsi%2Ff1"
    assert [body["alert"]["link"] for body in server.taken] == [
        page,  # where the record has none, as those of the role `health`
        "https://elsewhere.example.org",
        page,
    ]


def test_a_dead_target_holds_up_no_other_and_gets_all_in_order_once_it_is_back(
    bootstrap: str, server: ToldServer
) -> None:
    with told_server() as dead:
        dead.always = 503
        log = AlertLog(bootstrap, Alerting(notify=(Webhook(dead.url), Webhook(server.url))))
        with closing(log.worker()) as worker:
            log.tell(an_alert(1), an_alert(2), an_alert(3))
            until(worker, lambda: len(server.taken) == 3 and len(dead.bodies) > 3)
            figures = worker.figures()
            name = f"notify/webhook {dead.url}"
            assert figures[f"{name}/waiting"] == 3
            assert figures[f"{name}/failing_s"] > 0
            assert figures[f"notify/webhook {server.url}/failing_s"] == 0
            tried = {body["alert"]["alert_id"] for _, body in dead.bodies}
            assert tried == {"a1-confirmed"}  # nothing passes what was not taken
            dead.always = None
            until(worker, lambda: len(dead.taken) == 3 and done(worker))
            assert worker.figures()[f"{name}/failing_s"] == 0
    assert ids(dead) == ids(server) == ["a1-confirmed", "a2-confirmed", "a3-confirmed"]


def test_a_restarted_process_goes_on_where_each_target_stood(
    bootstrap: str, server: ToldServer
) -> None:
    with told_server() as dead:
        log = AlertLog(bootstrap, Alerting(notify=(Webhook(dead.url), Webhook(server.url))))
        with closing(log.worker()) as worker:
            log.tell(an_alert(1))
            until(worker, lambda: len(server.taken) == 1 == len(dead.taken) and done(worker))
            dead.always = 500
            log.tell(an_alert(2), an_alert(1, "resolved"))
            until(worker, lambda: len(server.taken) == 3 and len(dead.bodies) > 2)
        dead.always = None
        log.tell(an_alert(3))
        with closing(log.worker()) as worker:
            until(worker, lambda: len(server.taken) == 4 == len(dead.taken) and done(worker))
    assert ids(server) == ids(dead)
    assert ids(dead) == ["a1-confirmed", "a2-confirmed", "a1-resolved", "a3-confirmed"]


def test_a_new_target_is_told_what_stands_and_not_what_is_over(
    bootstrap: str, server: ToldServer
) -> None:
    log = AlertLog(bootstrap, Alerting(notify=(Webhook(server.url),)))
    log.tell(an_alert(1), an_alert(2), an_alert(1, "resolved"), an_alert(3, "suspected"))
    with closing(log.worker()) as worker:
        log.tell(an_alert(3))
        until(worker, lambda: len(server.taken) == 2 and done(worker))
    assert ids(server) == ["a2-confirmed", "a3-confirmed"]


def test_a_target_that_was_dead_from_the_first_alert_on_misses_nothing_by_a_restart(
    bootstrap: str,
) -> None:
    with told_server() as dead:
        dead.always = 503
        log = AlertLog(bootstrap, Alerting(notify=(Webhook(dead.url),)))
        with closing(log.worker()) as worker:
            until(worker, lambda: worker.deliveries[0].position == 0)
            log.tell(an_alert(1), an_alert(1, "resolved"))
            until(worker, lambda: len(dead.bodies) > 1)
        dead.always = None
        with closing(log.worker()) as worker:
            until(worker, lambda: len(dead.taken) == 2 and done(worker))
    assert ids(dead) == ["a1-confirmed", "a1-resolved"]


def test_a_record_that_is_refused_is_left_out_and_counted(
    bootstrap: str, server: ToldServer
) -> None:
    server.answers = [400]
    log = AlertLog(bootstrap, Alerting(notify=(Webhook(server.url),)))
    with closing(log.worker()) as worker:
        log.tell(an_alert(1), an_alert(2))
        until(worker, lambda: len(server.taken) == 1 and done(worker))
        assert worker.figures()[f"notify/webhook {server.url}/refused"] == 1
    assert ids(server) == ["a2-confirmed"]


def test_alertmanager_is_told_again_what_stands_and_is_dead_where_it_does_not_answer(
    bootstrap: str, server: ToldServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.alerting.alertmanager.AlertmanagerTarget.beats_every_s", 0.05)
    log = AlertLog(bootstrap, Alerting(notify=(Alertmanager(server.url),)))

    def standing(body: Any) -> list[str]:
        return [alert["labels"]["feature"] for alert in body]

    with closing(log.worker()) as worker:
        log.tell(an_alert(1), an_alert(2))
        until(worker, lambda: any(standing(body) == ["f1", "f2"] for body in server.taken))
        server.always = 503
        name = f"notify/alertmanager {server.url}/failing_s"
        until(worker, lambda: worker.figures()[name] > 0)  # told as dead though nothing waits
        server.always = None
        until(worker, lambda: worker.figures()[name] == 0)
        log.tell(an_alert(1, "resolved"))
        until(worker, lambda: standing(server.taken[-1]) == ["f2"])


def test_alertmanager_is_told_what_stands_at_once_after_a_restart(
    bootstrap: str, server: ToldServer
) -> None:
    log = AlertLog(bootstrap, Alerting(notify=(Alertmanager(server.url),)))
    with closing(log.worker()) as worker:
        log.tell(an_alert(1))
        until(worker, lambda: len(server.taken) == 1 and done(worker))
    with closing(log.worker()) as worker:  # the next beat is a minute away
        until(worker, lambda: len(server.taken) == 2)
    (first,), (again,) = server.taken
    assert again["labels"] == first["labels"]


def test_the_end_of_an_alert_reaches_whoever_was_told_of_it_and_nobody_else(
    bootstrap: str, server: ToldServer
) -> None:
    """The last figure of an alert may be a mild one."""
    log = AlertLog(bootstrap, Alerting(notify=(Webhook(server.url, severity="critical"),)))
    with closing(log.worker()) as worker:
        log.tell(an_alert(1, severity="critical"), an_alert(2))
        until(worker, lambda: len(server.taken) == 1 and done(worker))
    with closing(log.worker()) as worker:  # it knows by the log of what it told
        log.tell(an_alert(1, "resolved"), an_alert(2, "resolved"), an_alert(3, severity="critical"))
        until(worker, lambda: len(server.taken) == 3 and done(worker))
    assert ids(server) == ["a1-confirmed", "a1-resolved", "a3-confirmed"]


def test_alertmanager_is_told_the_end_under_the_labels_it_knows_also_after_a_restart(
    bootstrap: str, server: ToldServer
) -> None:
    log = AlertLog(bootstrap, Alerting(notify=(Alertmanager(server.url),)))
    with closing(log.worker()) as worker:
        log.tell(an_alert(1))
        until(worker, lambda: len(server.taken) == 1 and done(worker))
    log.tell(an_alert(2, "resolved", key=an_alert(1).key))  # another figure was the last
    with closing(log.worker()) as worker:
        until(worker, lambda: len(server.taken) == 2 and done(worker))
    (first,), (ended, last) = server.taken
    assert ended["labels"] == first["labels"] != last["labels"]
    assert ended["endsAt"] == last["endsAt"] < first["endsAt"]


def test_a_crash_before_the_commit_sends_the_record_again_under_the_same_idempotency_key(
    bootstrap: str, server: ToldServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = AlertLog(bootstrap, Alerting(notify=(Webhook(server.url),)))

    def die(*_: object) -> None:
        raise BrokerError("gone")

    with monkeypatch.context() as broken, closing(log.worker()) as worker:
        broken.setattr("streams.group_offsets.GroupOffsets.commit", die)
        log.tell(an_alert(1), an_alert(2))
        with pytest.raises(BrokerError, match="gone"):
            until(worker, lambda: False)
    with closing(log.worker()) as worker:
        until(worker, lambda: len(server.taken) == 3 and done(worker))
    assert ids(server) == ["a1-confirmed", "a1-confirmed", "a2-confirmed"]
    assert [h["Idempotency-Key"] for h in server.headers] == ids(server)


def test_a_target_that_fails_as_nobody_foresaw_ends_the_process_and_loses_nothing(
    bootstrap: str, server: ToldServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = AlertLog(bootstrap, Alerting(notify=(Webhook(server.url),)))

    def fail(*_: object) -> None:
        raise LookupError("a defect")

    with monkeypatch.context() as broken, closing(log.worker()) as worker:
        broken.setattr("serving.alerting.webhook.WebhookTarget.send", fail)
        log.tell(an_alert(1))
        with pytest.raises(LookupError, match="a defect"):
            until(worker, lambda: False)
    with closing(log.worker()) as worker:
        until(worker, lambda: len(server.taken) == 1 and done(worker))


def test_a_record_that_is_no_alert_is_passed_over(bootstrap: str, server: ToldServer) -> None:
    log = AlertLog(
        bootstrap,
        Alerting(notify=(Webhook(server.url),), policies=(Policy("hold rollout"),)),
    )
    client = producer(bootstrap, linger_ms=0)
    client.produce(log.pipeline.topics.alerts, b"{no alert", b"k", 0)
    assert client.flush(30) == 0
    log.tell(an_alert(1))
    holds = Holds(bootstrap, log.pipeline.topics.alerts, log.pipeline.alerting.policies)
    with closing(log.worker()) as worker, closing(holds):
        until(worker, lambda: len(server.taken) == 1 and done(worker))
        held = holds.now()
    assert held is not None
    assert held.alert_id == "a1-confirmed"


def test_a_token_that_is_not_there_ends_the_start(
    bootstrap: str, server: ToldServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_SUCH_TOKEN", raising=False)
    log = AlertLog(bootstrap, Alerting(notify=(Webhook(server.url, token="NO_SUCH_TOKEN"),)))  # noqa: S106
    with pytest.raises(ConfigurationError, match="NO_SUCH_TOKEN"):
        log.worker()
