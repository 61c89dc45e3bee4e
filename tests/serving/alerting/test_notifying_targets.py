"""What webhooks and Alertmanager are sent, over real connections."""

import socket
from contextlib import closing

import pytest

from serving.alerting.alertmanager import AlertmanagerTarget
from serving.alerting.declared import Alertmanager, Webhook
from serving.alerting.sending import NotDelivered, Poster, Refused
from serving.alerting.webhook import WebhookTarget, webhook_body
from streams.clock import ManualClock
from streams.errors import ConfigurationError
from streams.wire import Onset, Related
from tests.serving.alerting.told_server import DAY_MS, an_alert, told_server

NOW_MS = 20_000 * DAY_MS


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def test_a_webhook_gets_the_record_and_a_text_with_the_token_of_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOOK_TOKEN", "s3cret")
    with told_server() as server:
        declared = Webhook(f"{server.url}/in/T0/secret?x=1", token="HOOK_TOKEN")  # noqa: S106 - its name
        with closing(WebhookTarget(declared, "shop")) as target:
            target.send(an_alert(1, severity="critical"))
            target.send(an_alert(1, "resolved", action="none: resolved"))
    first, last = server.taken
    assert first["text"] == "[critical] shop: PSI of f1 is 0.41; retrain"
    assert last["text"] == "[resolved] shop: PSI of f1 is 0.41"
    assert (first["pipeline"], first["alert"]["alert_id"]) == ("shop", "a1-confirmed")
    states = [(body["alert"]["state"], body["alert"]["severity"]) for body in server.taken]
    assert states == [("confirmed", "critical"), ("resolved", "warning")]  # defaults are sent too
    assert first["alert"]["onset"] is None
    assert first["alert"]["window"]["end_ms"] == 18_007 * DAY_MS
    assert server.paths[0] == "/in/T0/secret?x=1"
    assert server.headers[0]["Authorization"] == "Bearer s3cret"
    assert server.headers[0]["Idempotency-Key"] == "a1-confirmed"
    assert "secret" not in target.name


def test_the_text_names_what_moved_along_and_where_to_look() -> None:
    related = tuple(Related("psi", name, 0.3) for name in "ghijk")
    alert = an_alert(1, related=related, link="https://kappa.example.org/#alerts/k")

    assert webhook_body("shop", alert)["text"] == (
        "[warning] shop: PSI of f1 is 0.41 (with g, h, i and 2 more); retrain "
        "https://kappa.example.org/#alerts/k"
    )


def test_alertmanager_gets_labels_annotations_and_times_so_that_the_alert_ends() -> None:
    onset = Onset(17_999 * DAY_MS)
    alert = an_alert(1, onset=onset, p_value=1e-9, effect=0.7, related=(Related("psi", "g", 0.3),))
    with told_server() as server:
        target = AlertmanagerTarget(Alertmanager(f"{server.url}/"), "shop", ManualClock(NOW_MS))
        with closing(target):
            target.send(alert)
            target.beat([alert])
            target.send(an_alert(1, "resolved"))
    assert server.paths == ["/api/v2/alerts"] * 3
    (firing,), (again,), (over,) = server.taken
    assert firing == again
    assert firing["labels"] == over["labels"]
    assert firing["labels"] == {
        "alertname": "KappaDataDrift",
        "pipeline": "shop",
        "kind": "data_drift",
        "metric": "psi",
        "feature": "f1",
        "key": "data_drift/psi/f1",
        "severity": "warning",
    }
    assert firing["annotations"]["summary"] == "PSI of f1 is 0.41"
    assert firing["annotations"]["onset"] == "2019-04-13T00:00:00.000Z"
    assert firing["annotations"]["related"] == "g"
    assert firing["startsAt"] == over["startsAt"] == "2019-04-21T00:00:00.000Z"
    assert firing["endsAt"] == "2024-10-04T00:10:00.000Z"
    assert over["endsAt"] == "2024-10-04T00:00:00.000Z"


def test_an_alert_whose_severity_changes_ends_under_the_old_labels() -> None:
    with told_server() as server:
        target = AlertmanagerTarget(Alertmanager(server.url), "shop", ManualClock(NOW_MS))
        with closing(target):
            target.send(an_alert(1))
            target.send(an_alert(1, alert_id="worse", severity="critical"), an_alert(1))
    ended, firing = server.taken[1]
    assert (ended["labels"]["severity"], ended["endsAt"]) == ("warning", "2024-10-04T00:00:00.000Z")
    assert (firing["labels"]["severity"], firing["endsAt"] > ended["endsAt"]) == ("critical", True)


def test_a_window_that_ends_ahead_of_the_clock_starts_before_it_ends() -> None:
    now_ms = 18_000 * DAY_MS  # a week before the window's end
    with told_server() as server:
        target = AlertmanagerTarget(Alertmanager(server.url), "shop", ManualClock(now_ms))
        with closing(target):
            target.send(an_alert(1, "resolved"))
    ((over,),) = server.taken
    assert over["startsAt"] < over["endsAt"]


@pytest.mark.parametrize("status", [400, 413, 422])
def test_what_is_refused_itself_is_not_to_be_sent_again(status: int) -> None:
    with told_server() as server, closing(Poster(server.url)) as poster:
        server.always = status
        with pytest.raises(Refused, match=str(status)):
            poster.post({})


@pytest.mark.parametrize("status", [302, 401, 404, 429, 500, 503])
def test_what_else_is_not_taken_is_sent_again(status: int) -> None:
    with told_server() as server, told_server() as elsewhere, closing(Poster(server.url)) as poster:
        server.always = status
        server.extra = {"Location": elsewhere.url, "Retry-After": "7"}
        with pytest.raises(NotDelivered, match=str(status)) as why:
            poster.post({})
    assert elsewhere.bodies == []  # a redirect would carry the token along
    assert why.value.wait_s == (0.0 if status == 302 else 7.0)


def test_nobody_there_and_nobody_answering_are_told_without_the_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("serving.alerting.sending.ANSWER_TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/T0/secret"
        with (
            closing(Poster(address)) as poster,
            pytest.raises(NotDelivered, match="Timeout") as why,
        ):
            poster.post({})
    assert "secret" not in str(why.value)
    with (
        closing(Poster(address)) as poster,
        pytest.raises(NotDelivered, match="ConnectError"),
    ):
        poster.post({})


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("ftp://host/x", "http://host:port"),
        ("/path/alone", "http://host:port"),
        ("http://host:port/x", "http://host:port"),
        ("http://ho\tst/x", "http://host:port"),
        ("http://" + "a" * 70 + ".xn--\u2603/x", "http://host:port"),
        ("https://me:hidden@host/x", "user name or password"),
    ],
)
def test_an_address_that_cannot_be_used_is_said_without_what_it_holds(url: str, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why) as said:
        Poster(url)
    assert "hidden" not in str(said.value)


@pytest.mark.parametrize("value", [None, "", "two\nlines", "ü"])
def test_a_token_that_is_missing_or_none_is_said_without_it(
    value: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HOOK_TOKEN", raising=False)
    if value is not None:
        monkeypatch.setenv("HOOK_TOKEN", value)
    with pytest.raises(ConfigurationError, match="HOOK_TOKEN") as said:
        Poster("http://127.0.0.1:1/", "HOOK_TOKEN")
    assert not value or value not in str(said.value)
