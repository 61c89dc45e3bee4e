"""Two workers and their broker are broken at exact points, and every event has one answer.

``benchmarks/faults.py`` does the same with a million events.
"""

from pathlib import Path

import pytest

from benchmarks.breaking.faults import POINTS, Fault, parse, schedule
from benchmarks.breaking.trial import Plan, Trial

pytestmark = pytest.mark.broker

MAX_BATCH = 100
STALL_S = 11.0  # past the session time-out


@pytest.mark.slow
def test_killed_stopped_and_without_a_broker_every_event_is_answered_once(tmp_path: Path) -> None:
    faults = [
        parse("die@mid-batch:2,stall@before-offsets:2,die@before-offsets:1"),
        parse("die@before-commit:2,die@after-commit:1,break@before-commit:2"),
    ]
    told = Trial(Plan(20_000, faults, MAX_BATCH, (STALL_S,), timeout_s=240), tmp_path).run()
    assert told.done == {
        **{f"die {point}": 1 for point in POINTS},
        "stall before-offsets": 1,
        "break before-commit": 1,
    }
    assert (told.woken, told.broker_starts) == (1, 1)
    found = told.deliveries
    assert found.exactly_once, found
    assert found.predictions == found.events >= 20_000
    assert found.transactions >= found.predictions / MAX_BATCH


@pytest.mark.slow
def test_without_transactions_the_same_check_reports_duplicates(tmp_path: Path) -> None:
    faults = [parse("die@before-commit:2"), parse("die@mid-batch:2")]
    plan = Plan(4_000, faults, MAX_BATCH, transactional=False, timeout_s=240)
    found = Trial(plan, tmp_path).run().deliveries
    assert found.twice > 0
    assert found.torn > 0
    assert not found.exactly_once
    assert found.lost == 0


def test_a_schedule_has_every_fault_once_and_is_drawn_from_the_seed() -> None:
    drawn = schedule(workers=2, kills_per_point=5, stalls=4, breaks=3, most_batches=4)
    faults = [fault for of_worker in drawn for fault in of_worker]
    kills = [fault.point for fault in faults if fault.action == "die"]
    assert {point: kills.count(point) for point in POINTS} == dict.fromkeys(POINTS, 5)
    assert sum(fault.action == "stall" for fault in faults) == 4
    assert sum(fault.action == "break" for fault in faults) == 3
    assert {fault.batches for fault in faults} == {1, 2, 3, 4}
    assert abs(len(drawn[0]) - len(drawn[1])) <= 1
    assert drawn == schedule(2, 5, 4, 3, 4)
    assert drawn != schedule(2, 5, 4, 3, 4, seed=8)


def test_faults_are_written_and_read() -> None:
    faults = [Fault("stall", "before-commit", 3), Fault("die", "mid-batch", 1)]
    assert parse(",".join(map(str, faults))) == faults
    assert parse("") == []


@pytest.mark.parametrize("text", ["die", "die@nowhere:1", "hit@mid-batch:1", "die@mid-batch:0"])
def test_what_is_no_fault_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no fault"):
        parse(text)
