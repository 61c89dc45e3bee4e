from dataclasses import replace

from serving.alerting.finding import LABELS
from serving.alerting.grouping import Told
from serving.alerting.records import RELATED, alert_of
from streams.wire import AlertState, Onset, ShiftedBin
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
    assert {a.link for a in alerts} == {None}


def test_what_is_over_says_so_and_no_more_what_it_was_due_to() -> None:
    lead = replace(
        figure("a", 0.4), bins=(ShiftedBin("x", 0.1, 0.2),), onset=Onset(1), cause=None
    )  # fmt: skip

    over = alert_of(Told("k", "resolved", "warning", lead, impact=0.2), "retrain", {})

    assert over.cause == "psi of a is back at 0.1, below 0.25 or within chance"
    assert (over.bins, over.onset, over.impact) == ((), None, None)


def test_an_onset_among_labels_names_their_topic() -> None:
    lead = replace(figure("a"), onset=Onset(1, topic=LABELS))

    told = alert_of(Told("k", "confirmed", "warning", lead), "", {}, "p.labels.v1")

    assert told.onset is not None
    assert told.onset.topic == "p.labels.v1"


def test_an_alert_links_to_the_page_where_its_address_is_declared() -> None:
    told = Told("data_drift/psi/a b[x=y]/1@2", "suspected", "info", figure("a b"))

    linked = alert_of(told, "", {}, dashboard="https://kappa.example.org/in/")

    assert linked.link == (
        "https://kappa.example.org/in/#alerts/data_drift%2Fpsi%2Fa%20b%5Bx%3Dy%5D%2F1%402"
    )


def test_what_joined_a_standing_alert_is_named_in_its_cause() -> None:
    joined = tuple(figure(name, excess) for name, excess in zip("bcdef", range(2, 7), strict=True))
    told = Told("k", "confirmed", "warning", joined[4], (), again=True, joined=joined)

    assert alert_of(told, "", {}).cause == (
        "PSI of f is 1.5; now also psi of b 0.5, psi of c 0.75, psi of d 1 and 1 more"
    )
    alone = Told("k", "confirmed", "warning", joined[4], joined[:4], again=True)
    assert alert_of(alone, "", {}).cause == "PSI of f is 1.5"
