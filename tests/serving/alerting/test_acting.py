"""When an alert takes the live version back."""

import pytest

from serving.alerting.acting import roll_back
from serving.alerting.standing import Standing
from streams.rollout import Rollout
from streams.wire import ModelEvent, Pinned, Registered, StageChanged
from tests.serving.alerting.told_server import an_alert


def live(*versions: int) -> list[ModelEvent]:
    """Return the log in which the versions went live, one after the other."""
    return [
        event
        for change, version in enumerate(versions, 1)
        for event in (
            Registered(version, f"c{version}", "", "", {}, {}, None),
            StageChanged(version, "live", "a test", change=change),
        )
    ]


def test_the_version_before_the_live_one_answers_again_and_the_log_says_why() -> None:
    alert = an_alert(1, model_version=2, p_value=0.001, impact=0.3)

    change, why_not = roll_back(Rollout().apply_all(live(1, 2)), Standing(alert, 7))

    assert why_not == ""
    assert change is not None
    assert (change.version, change.stage, change.instead, change.by) == (
        2,
        "rolled_back",
        1,
        "alert",
    )
    figures = (change.evidence or {})["alert"]
    assert figures["since_offset"] == 7
    assert (figures["key"], figures["p_value"], figures["impact"]) == (alert.key, 0.001, 0.3)
    assert "effect" not in figures  # what is not known is left out


@pytest.mark.parametrize(
    ("events", "version", "why"),
    [
        (live(1, 2), 1, "is not live"),
        (live(1, 2), 9, "is not live"),
        ([*live(1, 2), Pinned(1, 2, "mine", change=3)], 2, "is pinned"),
        (live(2), 2, "no version was live before"),  # the prior is nobody's remedy
    ],
    ids=["another version", "unknown", "pinned", "the first"],
)
def test_nothing_is_taken_back_where_that_is_no_remedy(
    events: list[ModelEvent], version: int, why: str
) -> None:
    alert = an_alert(1, model_version=version)

    change, why_not = roll_back(Rollout().apply_all(events), Standing(alert, 0))

    assert change is None
    assert why in why_not
