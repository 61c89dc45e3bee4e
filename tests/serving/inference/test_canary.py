"""Canaries on a real broker: who answers whom is what the control log says, also after a kill."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from features.records import FeatureRows
from serving.auditing.audit import run_audit
from serving.inference.answers import Predict
from serving.rollout.affected import affected
from serving.rollout.obeying import wait_obeyed
from streams.assignment import places_of
from streams.changes import Changes
from streams.routed import Routed
from streams.topics import Topics
from streams.wire import Activated, Pinned, Prediction, Registered, Routing, Stage, StageChanged
from tests.serving.feature_stream import (
    PARTITIONS,
    ConstantModel,
    append,
    committed_answers,
    control_log,
    emit,
    live,
    new_pipeline,
    registered,
    wait_drained,
    working,
)

pytestmark = pytest.mark.broker

SHOPS = [f"shop{n}" for n in range(400)]


@pytest.fixture
def topics(bootstrap: str) -> Topics:
    made = new_pipeline(bootstrap)
    append(bootstrap, made, registered(1), registered(2), registered(3), live(1))
    return made


class Play:
    """Feeds a pipeline: each round each shop once, shops spread over the partitions."""

    def __init__(self, bootstrap: str, topics: Topics) -> None:
        self.bootstrap, self.topics, self.rounds = bootstrap, topics, 0
        self.changes = Changes(bootstrap, topics.models)

    def round(self) -> None:
        n = len(SHOPS) // PARTITIONS
        for partition in range(PARTITIONS):
            first = self.rounds * n
            shops = SHOPS[partition::PARTITIONS]
            emit(self.bootstrap, self.topics, partition, range(first, first + n), entities=shops)
        self.rounds += 1

    def change(self, version: int, stage: Stage, **more: object) -> None:
        """Change a stage, and wait until it is obeyed."""
        event = StageChanged(version, stage, "a test", **more)  # type: ignore[arg-type]
        self.changes.decide(lambda _: event)
        found = wait_obeyed(self.changes, 1, PARTITIONS, 60)
        assert found.done, found.hint()

    def answers(self) -> list[Prediction]:
        wait_drained(self.bootstrap, self.topics)
        return committed_answers(self.bootstrap, self.topics.predictions)


def check(bootstrap: str, topics: Topics, answers: list[Prediction], n: int) -> None:
    """Each event once, in order, by the version that the log gives its entity there."""
    routed = Routed.of(control_log(bootstrap, topics))
    assert Counter(a.event_id for a in answers) == Counter(
        f"e{p}-{i}" for p in range(PARTITIONS) for i in range(n)
    )
    for partition in range(PARTITIONS):
        mine = [a for a in answers if a.source.partition == partition]
        assert [a.source.offset for a in mine] == list(range(n))
        offsets = np.array([int(a.prediction_id.rsplit("-", 2)[1]) for a in mine])
        due = routed.versions_at(1, partition, offsets, [a.entity for a in mine])
        assert [a.model_version for a in mine] == due.tolist()
    assert all(a.score == a.model_version / 100 for a in answers)


def test_a_canary_grows_from_1_to_10_percent_to_live_and_keeps_its_entities(
    bootstrap: str, topics: Topics
) -> None:
    play = Play(bootstrap, topics)
    with working(bootstrap, topics, max_batch=37):
        play.round()
        play.answers()
        play.change(2, "canary", share=0.01, salt="s")
        play.round()
        play.answers()
        play.change(2, "canary", share=0.1)
        play.round()
        play.answers()
        play.change(2, "live")
        play.round()
        answers = play.answers()
    n = len(SHOPS) // PARTITIONS
    check(bootstrap, topics, answers, 4 * n)
    rounds = [[a for a in answers if a.source.offset // n == r] for r in range(4)]
    by_2 = [{a.entity for a in part if a.model_version == 2} for part in rounds]
    places = places_of("s", SHOPS)
    assert by_2[0] == set()
    assert by_2[1] == {shop for shop, place in zip(SHOPS, places, strict=True) if place < 0.01}
    assert by_2[2] == {shop for shop, place in zip(SHOPS, places, strict=True) if place < 0.1}
    assert by_2[1] < by_2[2] < by_2[3] == set(SHOPS)
    assert {a.stage for a in rounds[2] if a.model_version == 2} == {"canary"}
    assert {a.stage for a in rounds[3]} == {"live"}


def test_a_rollback_under_load_ends_within_a_batch_and_lists_what_it_affects(
    bootstrap: str, topics: Topics
) -> None:
    play = Play(bootstrap, topics)
    with working(bootstrap, topics, max_batch=20):
        play.round()
        play.change(2, "live")
        for _ in range(5):
            play.round()
        play.change(2, "rolled_back", instead=1)
        for _ in range(2):
            play.round()
        answers = play.answers()
    check(bootstrap, topics, answers, 8 * len(SHOPS) // PARTITIONS)
    log = control_log(bootstrap, topics)
    found = affected(bootstrap, topics, Routed.of(log), 1, 2, PARTITIONS)
    assert sum(r.predictions for r in found) == sum(a.model_version == 2 for a in answers) > 0
    for r in found:
        mine = [a for a in answers if a.source.partition == r.partition and a.model_version == 2]
        times = [a.event_time_ms for a in mine]
        assert (r.predictions, r.first_event_ms) == (len(mine), min(times))
        assert r.last_event_ms == max(times)
    assert affected(bootstrap, topics, Routed.of(log), 1, 3, PARTITIONS) == []


def test_an_arm_that_fails_leaves_its_entities_to_the_live_version(
    bootstrap: str, topics: Topics
) -> None:
    def nan(rows: FeatureRows) -> NDArray[np.float64]:
        return np.full(len(rows), np.nan)

    def fragile(event: Registered) -> Predict:
        return nan if event.version == 2 else ConstantModel(event.version / 100)

    play = Play(bootstrap, topics)
    with working(bootstrap, topics, loader=fragile):
        play.change(2, "canary", share=0.5)
        play.round()
        answers = play.answers()
    assert {(a.model_version, a.stage) for a in answers} == {(1, "live")}
    check(bootstrap, topics, answers, len(SHOPS) // PARTITIONS)
    said = [e for e in control_log(bootstrap, topics) if isinstance(e, Activated)]
    assert said[-1].routing == Routing(1)


def test_stale_changes_and_those_against_a_pin_change_no_answer(
    bootstrap: str, topics: Topics
) -> None:
    play = Play(bootstrap, topics)
    with working(bootstrap, topics):
        play.changes.decide(lambda _: Pinned(1, 1, "a test"))
        append(
            bootstrap, topics,
            StageChanged(2, "live", "stale", change=1),
            StageChanged(2, "canary", "held", share=0.5, by="policy", change=2),
            StageChanged(3, "live", "from the future", by="operator", change=9),
        )  # fmt: skip
        play.round()
        answers = play.answers()
        assert {a.model_version for a in answers} == {1}
        play.changes.decide(lambda _: Pinned(1, None, "a test"))
        play.change(2, "canary", share=0.5)
        play.round()
        answers = play.answers()
    assert {a.model_version for a in answers} == {1, 2}
    check(bootstrap, topics, answers, len(SHOPS))


def test_two_workers_of_whom_one_is_killed_leave_no_answer_that_the_log_does_not_explain(
    bootstrap: str, topics: Topics, tmp_path: Path
) -> None:
    play = Play(bootstrap, topics)
    killed = start(bootstrap, topics, "w1", tmp_path)
    try:
        with working(bootstrap, topics, worker="w0", max_batch=50):
            play.round()
            play.change(2, "canary", share=0.2)
            for share in (0.3, 0.4, 0.5):
                play.round()
                play.changes.decide(
                    lambda _, s=share: StageChanged(2, "canary", "grows", share=s)  # type: ignore[misc]
                )
                if share == 0.4:
                    os.kill(killed.pid, signal.SIGKILL)
            for _ in range(3):
                play.round()
            play.change(2, "rolled_back")
            play.round()
            answers = play.answers()
    finally:
        killed.kill()
        killed.wait(30)
    check(bootstrap, topics, answers, 8 * len(SHOPS) // PARTITIONS)


def start(bootstrap: str, topics: Topics, worker: str, home: Path) -> subprocess.Popen[bytes]:
    """Start a worker in a process of its own, and wait until it says that it answers."""
    code = (
        "import sys, threading; from pathlib import Path\n"
        "from serving.inference.worker import run_inference\n"
        "from streams.topics import Topics\n"
        "from tests.serving.feature_stream import DEFINITION, EVENTS, PRIOR, load\n"
        "from training.spec import Model\n"
        "run_inference(sys.argv[1], Topics(sys.argv[2]), [DEFINITION], EVENTS, Model(prior=PRIOR),"
        " Path(sys.argv[4]), 'inference', sys.argv[3], 50, load=load)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, bootstrap, topics.name, worker, home])
    wait(lambda: any(isinstance(e, Activated) for e in control_log(bootstrap, topics)))
    return process


def wait(ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 90
    while not ready():
        assert time.monotonic() < deadline, "not ready after 90 s"
        time.sleep(0.1)


def test_the_audit_finds_an_answer_by_another_model(bootstrap: str, topics: Topics) -> None:
    play = Play(bootstrap, topics)
    with working(bootstrap, topics):
        play.change(2, "canary", share=0.5, salt="s")
        play.round()
        play.answers()
    n = len(SHOPS) // PARTITIONS
    other = [p.other_model for p in run_audit(bootstrap, topics, PARTITIONS).partitions]
    assert other == [[], []]
    # The log is made to say that the canary answered all from the offset 150 of partition 1 on.
    all_2 = Activated(2, "live", "w9", {"1": 150}, Routing(2), 1)
    append(bootstrap, topics, all_2)
    found = run_audit(bootstrap, topics, PARTITIONS)
    by_1 = [a for a in play.answers() if a.model_version == 1 and a.source.partition == 1]
    assert found.partitions[0].other_model == []
    assert found.partitions[1].other_model == [
        a.source.offset for a in by_1 if 150 <= a.source.offset < n
    ]
    assert not found.partitions[1].ok
    assert any("another model" in line for line in found.lines)
