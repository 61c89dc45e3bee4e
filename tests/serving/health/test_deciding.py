"""Health alerts: what raises one, when, how often it is told, and that a restart tells no more."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import msgspec

from serving.health.deciding import Health
from serving.health.observation import Limits, Observation
from streams.wire import Alert
from tests.serving.health.seen import AWAY, GOOD, MINUTE, T0, TOPICS, S, seen, vitals

GIB = 1 << 30


def told(alerts: Iterable[Alert]) -> list[tuple[str, str, str]]:
    return [(alert.metric, alert.state, alert.severity) for alert in alerts]


def run(health: Health, course: Sequence[Observation]) -> list[Alert]:
    return [alert for each in course for alert in health.judge(each)]


def test_nothing_is_told_of_a_pipeline_that_is_well() -> None:
    course = [
        seen(T0 + i * 5 * S, vitals(T0 + i * 5 * S), monitor={0: (i * 10, i * 10 + 5)}, read=i * 99)
        for i in range(200)
    ]
    assert run(Health(TOPICS), course) == []


def test_a_group_that_stands_still_while_more_comes_is_suspected_confirmed_and_resolved() -> None:
    health = Health(TOPICS)
    course = [
        seen(T0 + i * 5 * S, vitals(T0 + i * 5 * S), monitor={0: (100, 100 + i), 1: (i, i)})
        for i in range(60)
    ]
    alerts = run(health, course)
    assert told(alerts) == [("lag", "suspected", "info"), ("lag", "confirmed", "critical")]
    suspected, confirmed = alerts
    assert suspected.window.end_ms - T0 == 60 * S
    assert confirmed.window.end_ms - T0 == 180 * S
    assert confirmed.key == f"health/lag/monitor/{TOPICS.predictions}@{T0}"
    assert "partition 0 (36 behind)" in confirmed.cause
    assert confirmed.n == 1
    on = [
        seen(T0 + 300 * S + i * 5 * S, vitals(T0 + 300 * S + i * 5 * S), monitor={0: (200, 200)})
        for i in range(10)
    ]
    assert told(run(health, on)) == [("lag", "resolved", "critical")]


def test_progress_however_slow_and_a_role_that_never_ran_raise_nothing() -> None:
    slow = [
        seen(T0 + i * 5 * S, vitals(T0 + i * 5 * S), monitor={0: (i // 10, i * 100)})
        for i in range(100)
    ]
    assert run(Health(TOPICS), slow) == []
    nobody = [
        seen(T0 + i * 5 * S, vitals(T0 + i * 5 * S, "features-a"), monitor={0: (0, i)})
        for i in range(100)
    ]
    assert run(Health(TOPICS), nobody) == []


def test_a_silent_worker_is_told_and_one_that_ended_in_order_is_not() -> None:
    health = Health(TOPICS)
    ended = vitals(T0, "trainer-a", figures={"stopped": 1.0})
    alerts = run(health, [seen(T0, vitals(T0), ended)])
    alerts += run(health, [seen(T0 + i * 5 * S) for i in range(1, 20)])
    assert told(alerts) == [("silent", "suspected", "info"), ("silent", "confirmed", "critical")]
    assert [alert.window.end_ms - T0 for alert in alerts] == [20 * S, 60 * S]
    assert alerts[0].feature == "monitor-a"
    back = [seen(T0 + 100 * S + i * 5 * S, vitals(T0 + 100 * S + i * 5 * S)) for i in range(8)]
    assert told(run(health, back)) == [("silent", "resolved", "critical")]


def test_while_the_brokers_are_away_nobody_counts_as_silent() -> None:
    health = Health(TOPICS)
    course = [seen(T0, vitals(T0), monitor={0: (0, 0)})]
    course += [seen(T0 + i * 5 * S, broker=AWAY) for i in range(1, 25)]
    alerts = run(health, course)
    assert told(alerts) == [
        ("broker_answers", "suspected", "info"),
        ("broker_answers", "confirmed", "critical"),
    ]
    assert alerts[1].window.start_ms == T0 + 5 * S
    back = T0 + 125 * S
    after = [seen(back + i * 5 * S, vitals(back + i * 5 * S)) for i in range(10)]
    assert told(run(health, after)) == [("broker_answers", "resolved", "critical")]


def test_a_process_started_again_tells_nothing_twice() -> None:
    course = [
        seen(T0 + i * 5 * S, vitals(T0 + i * 5 * S), monitor={0: (100, 100 + i)}) for i in range(60)
    ]
    whole = run(Health(TOPICS), course)
    for cut in range(1, len(course) - 12):
        first, second = Health(TOPICS), Health(TOPICS)
        before = run(first, course[:cut])
        second.restore(before, course[cut].at_ms)
        ids = [alert.alert_id for alert in before + run(second, course[cut:])]
        assert len(ids) == len(set(ids))
        # What it had seen before it was suspected, it has to see again.
        if before:
            assert ids == [alert.alert_id for alert in whole][: len(ids)]


def test_what_was_resolved_meanwhile_is_told_by_the_one_that_was_started_again() -> None:
    health = Health(TOPICS)
    alerts = run(health, [seen(T0, vitals(T0)), *(seen(T0 + i * 5 * S) for i in range(1, 15))])
    again = Health(TOPICS)
    again.restore(alerts, T0 + 80 * S)
    found = run(again, [seen(T0 + (80 + 5 * i) * S, vitals(T0 + (80 + 5 * i) * S))
                        for i in range(10)])  # fmt: skip
    assert told(found) == [("silent", "resolved", "critical")]
    assert found[0].key == alerts[0].key


def test_dead_letters_above_their_share_are_told_and_a_few_are_not() -> None:
    few = [
        seen(T0 + i * 5 * S, vitals(T0 + i * 5 * S), dead=i // 20, read=i * 100) for i in range(80)
    ]
    assert run(Health(TOPICS), few) == []
    many = [
        seen(T0 + i * 5 * S, vitals(T0 + i * 5 * S), dead=i * 3, read=i * 100) for i in range(40)
    ]
    alerts = run(Health(TOPICS), many)
    assert told(alerts) == [("dead_letters", "suspected", "info"),
                            ("dead_letters", "confirmed", "warning")]  # fmt: skip
    assert abs(alerts[0].value - 0.03) < 1e-9


def test_a_worker_that_keeps_dying_is_told() -> None:
    course = [
        seen(T0 + i * 30 * S, vitals(T0 + i * 30 * S, pid=i, began_ms=T0 + i * 30 * S))
        for i in range(5)
    ]
    alerts = run(Health(TOPICS), course)
    assert told(alerts) == [("restarts", "confirmed", "critical")]
    assert alerts[0].n == Limits().restarts
    # One that was stopped in order and started again did not die.
    stopped = {"stopped": 1.0}
    good = [
        seen(
            at, vitals(at, pid=i, began_ms=at), vitals(at + S, pid=i, began_ms=at, figures=stopped)
        )
        for i in range(6)
        for at in [T0 + i * 30 * S]
    ]
    assert run(Health(TOPICS), good) == []


def test_a_disk_that_is_nearly_full_is_a_warning_and_then_critical() -> None:
    health = Health(TOPICS)

    def at(i: int, free: int) -> Observation:
        now = T0 + i * 5 * S
        return seen(now, vitals(now, disk_free_bytes=free))

    alerts = run(health, [at(i, GIB) for i in range(20)])
    assert told(alerts) == [("disk", "suspected", "info"), ("disk", "confirmed", "warning")]
    worse = run(health, [at(20 + i, GIB // 10) for i in range(3)])
    assert told(worse) == [("disk", "confirmed", "critical")]
    assert worse[0].key == alerts[0].key
    assert worse[0].alert_id != alerts[1].alert_id


def test_memory_that_grows_steadily_is_told_and_what_levels_off_is_not() -> None:
    def course(sizes: Iterable[int]) -> list[Observation]:
        return [
            seen(T0 + i * MINUTE, vitals(T0 + i * MINUTE, memory_bytes=size << 20))
            for i, size in enumerate(sizes)
        ]

    leaking = run(Health(TOPICS), course(100 + 20 * i for i in range(120)))
    assert told(leaking) == [("memory", "suspected", "info"), ("memory", "confirmed", "warning")]
    filling = run(Health(TOPICS), course(min(100 + 100 * i, 800) for i in range(120)))
    assert filling == []
    swinging = run(Health(TOPICS), course(500 + 400 * (i % 7 == 0) for i in range(120)))
    assert swinging == []


def test_brokers_that_miss_replicas_leaders_speed_or_room_are_told() -> None:
    def of(broker: object) -> list[tuple[str, str, str]]:
        assert isinstance(broker, type(GOOD))
        course = [seen(T0 + i * 5 * S, vitals(T0 + i * 5 * S), broker=broker) for i in range(20)]
        return told(run(Health(TOPICS), course))

    for changed, metric, severity in (
        (replace(GOOD, under_replicated=2), "under_replicated", "warning"),
        (replace(GOOD, offline=1), "offline", "critical"),
        (replace(GOOD, answer_ms=4_000.0), "broker_slow", "warning"),
        (replace(GOOD, free_bytes=9 * GIB), "disk", "warning"),
    ):
        assert of(changed) == [(metric, "suspected", "info"), (metric, "confirmed", severity)]


def test_reports_that_are_read_again_are_no_restarts() -> None:
    health = Health(TOPICS)
    before = [vitals(T0, pid=7, began_ms=T0), vitals(T0 + S, pid=8, began_ms=T0 + S)]
    now = vitals(T0 + 20 * MINUTE, pid=9, began_ms=T0 + 20 * MINUTE)
    alerts = []
    for n in range(4):
        at_ms = T0 + 20 * MINUTE + n * 10 * S
        alerts += health.judge(seen(at_ms, *before, msgspec.structs.replace(now, at_ms=at_ms)))
    assert alerts == []
