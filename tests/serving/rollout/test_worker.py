"""The rollout worker on a real broker: outcomes in, a version passes, goes back, or is told of."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from serving.rollout.worker import RolloutWorker
from streams.errors import ConfigurationError
from streams.wire import Judged, Pinned, StageChanged
from tests.serving.rollout.rollout_log import POLICY, RolloutLog

pytestmark = pytest.mark.broker
STEP = 1_000


def walk(log: RolloutLog, worker: RolloutWorker, version: int, events: int = 30_000) -> None:
    """Play until a version is live or rolled back."""
    for _ in range(events // STEP):
        log.play(STEP)
        log.drain(worker)
        if log.rollout().stages[version] in ("live", "rolled_back"):
            return
    raise AssertionError(f"no end: {log.events()[-1]}")


def test_a_better_version_goes_through_the_canaries_to_live(bootstrap: str, tmp_path: Path) -> None:
    log = RolloutLog.new(bootstrap, {1: 1.0, 2: 0.3})
    log.play(500)
    log.to_shadow(2)
    with closing(log.worker(tmp_path)) as worker:
        walk(log, worker, 2)
    steps = log.changes(2)
    assert [(s.stage, s.share) for s in steps] == [
        ("canary", 0.05),
        ("canary", 0.5),
        ("live", None),
    ]
    assert [s.change for s in steps] == [3, 4, 5]
    assert {s.salt for s in steps[:2]} == {"canary-2"}  # so the arm that grows keeps its entities
    assert log.rollout().live == 2
    for step in steps:
        evidence = step.evidence or {}
        assert evidence["pairs"]["high_less_margin"] < 0 < evidence["pairs"]["difference"]["n"]
        assert evidence["against"] == 1
        assert evidence["outcomes"]["0"] > 0
    in_canary = [step.evidence or {} for step in steps[1:]]
    for evidence, share in zip(in_canary, (0.05, 0.5), strict=True):
        counts = evidence["entities"]
        assert counts["p"] > 0.001
        assert abs(counts["challenger"] / (counts["challenger"] + counts["live"]) - share) < 0.05
        assert evidence["arms"]["challenger_n"] >= POLICY.minimum


def test_a_worse_version_is_rolled_back_from_shadow(bootstrap: str, tmp_path: Path) -> None:
    log = RolloutLog.new(bootstrap, {1: 0.3, 2: 1.2})
    log.to_shadow(2)
    with closing(log.worker(tmp_path)) as worker:
        walk(log, worker, 2)
    (back,) = log.changes(2)
    assert (back.stage, (back.evidence or {})["rule"]) == ("rolled_back", "worse")
    assert (back.evidence or {})["pairs"]["low"] > 0
    assert back.reason.startswith("worse on the same events: +0.")
    assert log.rollout().live == 1


def test_a_version_that_turns_bad_in_canary_is_rolled_back(bootstrap: str, tmp_path: Path) -> None:
    log = RolloutLog.new(bootstrap, {1: 0.5, 2: 0.3}, replace(POLICY, shares=(0.5,)))
    log.to_shadow(2)
    with closing(log.worker(tmp_path)) as worker:
        while log.rollout().stages[2] == "shadow":
            log.play(STEP)
            log.drain(worker)
        log.noise[2] = 3.0
        walk(log, worker, 2)
    steps = log.changes(2)
    assert [s.stage for s in steps] == ["canary", "rolled_back"]
    assert log.rollout().routing(1).arms == ()


def test_a_dry_run_only_says_so(bootstrap: str, tmp_path: Path) -> None:
    log = RolloutLog.new(bootstrap, {1: 1.0, 2: 0.3}, replace(POLICY, dry_run=True))
    log.to_shadow(2)
    with closing(log.worker(tmp_path)) as worker:
        log.play(3 * STEP)
        log.drain(worker)
    assert log.changes(2) == []
    judged = [e for e in log.events() if isinstance(e, Judged)]
    assert all(e.dry_run for e in judged)
    assert (judged[-1].verdict, judged[-1].evidence["rule"]) == ("promote", "within margin")
    assert log.rollout().stages[2] == "shadow"
    # Once for each finding, not at each look.
    assert len({(e.verdict, e.evidence["rule"]) for e in judged}) == len(judged)


def test_what_the_operator_put_there_is_only_judged(bootstrap: str, tmp_path: Path) -> None:
    log = RolloutLog.new(bootstrap, {1: 1.0, 2: 0.3})
    log.to_shadow(2, by="operator")
    with closing(log.worker(tmp_path)) as worker:
        log.play(3 * STEP)
        log.drain(worker)
    assert log.changes(2) == []
    assert log.rollout().judged[2, "shadow"].verdict == "promote"


def test_a_pin_holds_a_version_in_shadow_until_it_is_let_go(bootstrap: str, tmp_path: Path) -> None:
    log = RolloutLog.new(bootstrap, {1: 1.0, 2: 0.3})
    log.to_shadow(2)
    log.tell(Pinned(1, 1, "a test", change=3))
    with closing(log.worker(tmp_path)) as worker:
        log.play(3 * STEP)
        log.drain(worker)
        held = log.rollout().judged[2, "shadow"]
        assert (held.verdict, held.evidence["rule"]) == ("hold", "pinned")
        assert log.changes(2) == []
        log.tell(Pinned(1, None, "a test", change=4))
        log.play(STEP)
        log.drain(worker)
    assert [(s.stage, s.change) for s in log.changes(2)] == [("canary", 5)]


def test_a_worker_that_dies_at_any_point_decides_the_same(bootstrap: str, tmp_path: Path) -> None:
    """One worker sees all; the other dies after each stretch, with the state of some before."""
    ends = []
    for home, dies in ((tmp_path / "a", False), (tmp_path / "b", True)):
        log = RolloutLog.new(bootstrap, {1: 1.0, 2: 0.3})
        log.to_shadow(2)
        worker = log.worker(home)
        for step in range(5):
            log.play(1_130)
            log.drain(worker)
            if dies:
                if step % 2 == 0:
                    worker.save()
                worker.close()  # what it had read since is lost
                worker = log.worker(home)
                log.drain(worker)
        worker.close()
        ends.append([(s.stage, s.share, s.change, s.reason, s.evidence) for s in log.changes(2)])
    assert len(ends[0]) >= 2
    assert ends[0] == ends[1]


def test_a_crash_after_the_append_does_not_repeat_it(bootstrap: str, tmp_path: Path) -> None:
    log = RolloutLog.new(bootstrap, {1: 1.0, 2: 0.3})
    log.to_shadow(2)
    log.play(2 * STEP)
    worker = log.worker(tmp_path)
    while not log.changes(2):
        worker.turn()
    worker.close()  # without a snapshot: the next one reads all outcomes again
    with closing(log.worker(tmp_path)) as again:
        log.drain(again)
    assert [(s.stage, s.share) for s in log.changes(2)] == [("canary", 0.05)]


def test_what_another_worker_has_decided_is_not_decided_again(
    bootstrap: str, tmp_path: Path
) -> None:
    log = RolloutLog.new(bootstrap, {1: 1.0, 2: 0.3})
    log.to_shadow(2)
    log.play(2 * STEP)
    with closing(log.worker(tmp_path / "a")) as one, closing(log.worker(tmp_path / "b")) as two:
        log.drain(one)
        log.drain(two)
    counted = [e for e in log.events() if isinstance(e, StageChanged) and e.stage == "canary"]
    assert log.rollout().stages[2] == "canary"
    assert len(counted) == 1


def test_several_partitions_are_summed_together(bootstrap: str, tmp_path: Path) -> None:
    log = RolloutLog.new(bootstrap, {1: 1.0, 2: 0.3}, partitions=2)
    log.to_shadow(2)
    with closing(log.worker(tmp_path)) as worker:
        walk(log, worker, 2)
    first = log.changes(2)[0].evidence or {}
    assert set(first["outcomes"]) == {"0", "1"}
    assert log.rollout().live == 2


def test_without_a_policy_there_is_nothing_to_do(bootstrap: str, tmp_path: Path) -> None:
    log = RolloutLog.new(bootstrap, {1: 1.0})
    pipeline = replace(log.pipeline, rollout=None, features=log.pipeline.definitions)
    with pytest.raises(ConfigurationError, match="declares no rollout"):
        RolloutWorker(bootstrap, pipeline, tmp_path)
