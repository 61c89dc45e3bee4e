"""The folds over the control log and the commands: rollout, trainings, experiments."""

from typing import Any

from serving.dashboard.experiment_list import ExperimentList
from serving.dashboard.rollout_story import RolloutStory
from serving.dashboard.training_list import TrainingList
from serving.rollout.status import Logged
from streams.rollout import Rollout
from streams.wire import (
    Advance,
    Arm,
    ExperimentStarted,
    ExperimentStopped,
    Judged,
    ModelEvent,
    Pinned,
    Registered,
    Retrain,
    StageChanged,
    TrainingRefused,
)

EVIDENCE: dict[str, Any] = {
    "rule": "undecided", "against": 1, "share": 0.1, "margin": 0.002,
    "pairs": {"difference": {"mean": -0.01, "n": 5_000}, "low": -0.02, "high": 0.001},
    "guardrails": {"calibration": {"value": 0.01, "limit": 0.05, "tripped": False}},
}  # fmt: skip


def registered(version: int, command_id: str = "", cutoff_ms: int = 0) -> Registered:
    manifest = {
        "cutoff_ms": cutoff_ms, "counts": {"examples": 70}, "parent": {"version": version - 1},
    }  # fmt: skip
    return Registered(
        version, command_id or f"c{version}", "", "", manifest, {"log_loss": 0.5}, None
    )


def told(*events: ModelEvent) -> list[Logged]:
    return [Logged(i, 1_000 * i, event) for i, event in enumerate(events)]


def story(*events: ModelEvent) -> RolloutStory:
    made = RolloutStory(1, 2, None)
    for logged in told(*events):
        made.take(logged)
    return made


def test_it_tells_who_answers_and_who_decided() -> None:
    found = story(
        registered(1),
        StageChanged(1, "live", "first", by="trainer", change=1),
        registered(2),
        StageChanged(2, "canary", "try it", share=0.1, salt="s", by="operator", change=2),
        StageChanged(2, "live", "stale", by="operator", change=2),
    ).whole()
    (definition,) = found.definitions
    assert (definition.live, definition.answering, definition.obeyed) == (1, True, False)
    assert [(a.version, a.stage, a.share) for a in definition.arms] == [(2, "canary", 0.1)]
    assert [(c.what, c.by, c.reason) for c in found.changes] == [
        ("model 1 → live", "trainer", "first"),
        ("model 2 → canary for 0.1 of the entities", "operator", "try it"),
    ]


def test_a_judgement_is_a_point_of_the_confidence_sequence() -> None:
    found = story(
        registered(1),
        StageChanged(1, "live", "first", change=1),
        registered(2),
        StageChanged(2, "canary", "try", share=0.1, change=2),
        Judged(2, "canary", "hold", "undecided", EVIDENCE),
        StageChanged(2, "live", "no worse", by="policy", evidence=EVIDENCE, change=3),
    ).whole()
    first, second = found.judgements
    assert (first.verdict, first.mean, first.low, first.high) == ("hold", -0.01, -0.02, 0.001)
    assert (first.n, first.margin, first.against, first.source) == (5_000, 0.002, 1, "pairs")
    assert (second.verdict, second.stage) == ("promote", "live")


def test_guardrails_are_those_of_versions_on_trial() -> None:
    events = (
        registered(1),
        StageChanged(1, "live", "first", change=1),
        registered(2),
        StageChanged(2, "canary", "try", share=0.1, change=2),
        Judged(2, "canary", "hold", "undecided", EVIDENCE),
    )
    (rail,) = story(*events).whole().guardrails
    assert (rail.name, rail.value, rail.limit, rail.tripped) == ("calibration", 0.01, 0.05, False)
    taken_back = StageChanged(2, "rolled_back", "enough", change=3)
    assert story(*events, taken_back).whole().guardrails == []


def test_pins_and_marks() -> None:
    made = story(
        registered(1, cutoff_ms=5_000),
        StageChanged(1, "live", "first", change=1),
        Pinned(1, 1, "holidays", change=2),
    )
    assert made.whole().definitions[0].pinned == 1
    assert [(m.kind, m.at_ms, m.version) for m in made.marks()] == [
        ("training", 5_000, 1),
        ("live", 5_000, 1),
    ]


def test_a_training_is_asked_for_and_answered_in_any_order() -> None:
    trainings = TrainingList()
    trainings.asked(10, Retrain("c1", "drift", 4_000))
    trainings.asked(11, Advance("a1", 5_000))
    for logged in told(registered(1, cutoff_ms=4_000), TrainingRefused("c2", "no better")):
        trainings.take(logged)
    trainings.asked(12, Retrain("c2", "by hand", 6_000))
    trainings.asked(13, Retrain("c3", "again", 7_000))
    rollout = Rollout().apply(registered(1)).apply(StageChanged(1, "live", "x", change=1))
    found = {t.command_id: t for t in trainings.whole(rollout).trainings}
    assert {key: t.state for key, t in found.items()} == {
        "c1": "registered", "c2": "refused", "c3": "asked",
    }  # fmt: skip
    made, refused = found["c1"], found["c2"]
    assert (made.version, made.rows, made.reason, made.stage) == (1, 70, "drift", "live")
    assert (made.parent, made.metrics) == (0, {"log_loss": 0.5})
    assert (refused.refusal, refused.reason) == ("no better", "by hand")


def test_experiments_the_running_ones_first() -> None:
    def started(name: str, change: int) -> ExperimentStarted:
        arms = (Arm(2, "experiment", 0.5),)
        return ExperimentStarted(name, 1, 1, arms, "s", {"metrics": ["brier"]}, "why", change)

    experiments = ExperimentList()
    stopped = ExperimentStopped("first", "done", {"verdict": "keep"}, change=2)
    for logged in told(started("first", 1), stopped, started("second", 3)):
        experiments.take(logged)
    second, first = experiments.whole().experiments
    assert (second.name, second.stopped_ms) == ("second", None)
    assert (first.name, first.stop_reason, first.evidence) == ("first", "done", {"verdict": "keep"})
