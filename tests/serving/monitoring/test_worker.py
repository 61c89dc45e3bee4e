import os
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest

from serving.auditing.dead_letter_log import read_dead_letters
from serving.monitoring.log_reader import MAX_BATCH
from serving.monitoring.worker import MonitorWorker, run_monitor
from serving.spec import DataDrift, Performance
from streams.errors import ConfigurationError, DefinitionError
from streams.wire import Alert, Metric, Window
from tests.serving.monitored import DAY, DEFINITION, EVENTS, HOUR, LABELS, START, feature_rows
from tests.serving.monitored_log import MONITORS, TRAINING, MonitoredLog, turn_until

pytestmark = pytest.mark.broker

DRIFTED = {"distance": 5.0, "long": 0.9}


@pytest.fixture
def log(bootstrap: str) -> MonitoredLog:
    return MonitoredLog.new(bootstrap)


@contextmanager
def _crashing(worker: MonitorWorker) -> Iterator[MonitorWorker]:
    """Give the worker back as a crash would: nothing is saved, nothing committed any more."""
    with closing(worker):
        yield worker


def _play(log: MonitoredLog, worker: MonitorWorker, day: int, **what: float) -> None:
    """Append a day, and let the monitor close it."""
    log.add_day(START + day * DAY, 200, version=1 if day > 1 else 0, **what)  # type: ignore[arg-type]
    log.drain(worker)
    log.advance(START + (day + 1) * DAY)
    log.drain(worker)


def _calm_days_and_a_model(log: MonitoredLog, worker: MonitorWorker, folder: Path) -> None:
    rows = log.add_day(START, 200) + log.add_day(START + DAY, 200)
    log.drain(worker)
    log.advance(START + 2 * DAY)
    log.drain(worker)
    log.put_live(1, rows, folder)


def _content(log: MonitoredLog) -> tuple[list[Metric], list[tuple[str, str, float, str]]]:
    return log.metrics(), [_told(alert) for alert in log.alerts()]


def _told(alert: Alert) -> tuple[str, str, float, str]:
    return alert.alert_id, alert.cause, alert.value, alert.action


def _of_all(log: MonitoredLog, name: str) -> list[Metric]:
    """Return a figure of performance by the arrival of labels, of all events."""
    found = [m for m in log.metrics() if m.metric == name and m.group is None]
    return [m for m in found if m.by == "label"]


def test_drift_is_suspected_confirmed_told_once_and_asks_for_one_training(
    log: MonitoredLog, tmp_path: Path
) -> None:
    with closing(log.monitor(tmp_path)) as worker:
        _calm_days_and_a_model(log, worker, tmp_path)
        _play(log, worker, 2)
        for day in (3, 4, 5):
            _play(log, worker, day, **DRIFTED)

    alerts = log.alerts()
    assert [(a.kind, a.metric, a.feature, a.state) for a in alerts] == [
        ("data_drift", "psi", "distance", "suspected"),
        ("performance", "calibration_gap", None, "suspected"),
        ("data_drift", "psi", "distance", "confirmed"),
        ("performance", "calibration_gap", None, "confirmed"),
    ]
    for alert in alerts[:2]:
        assert (alert.model_version, alert.action, alert.n) == (1, "none: suspected", 400)
        assert (alert.window.start_ms, alert.window.end_ms) == (START + 2 * DAY, START + 4 * DAY)
        assert sum(alert.offsets[log.topics.features].values()) == 800
    assert alerts[0].cause.startswith("PSI of distance is")
    assert "above 0.25 and above" in alerts[0].cause
    assert alerts[1].value == pytest.approx(0.2)
    onset = alerts[0].onset
    assert onset is not None
    assert (onset.time_ms, onset.partition, onset.offset) == (START + 3 * DAY, 0, 300)
    assert [a.action for a in alerts[2:]] == ["retrain", "retrain"]
    assert alerts[2].key == alerts[0].key
    retrains = log.retrains()
    assert [(r.command_id, r.cutoff_ms) for r in retrains] == [
        (f"retrain-{START + 2 * DAY}", START + 2 * DAY),
        (f"retrain-{START + 5 * DAY}", START + 5 * DAY),
    ]
    assert retrains[0].reason == "schedule"
    assert retrains[1].reason == f"alert: {alerts[2].cause} (and 1 more)"


def test_figures_are_those_of_the_window_and_of_the_live_version(
    log: MonitoredLog, tmp_path: Path
) -> None:
    with closing(log.monitor(tmp_path)) as worker:
        _calm_days_and_a_model(log, worker, tmp_path)
        _play(log, worker, 2, score=0.25, long=1.0)

    last = {
        (m.metric, m.feature): m
        for m in log.metrics()
        if m.window == Window(START + DAY, START + 3 * DAY)
        and (m.group, m.model_version) == (None, 1)
    }
    assert {m.model_version for m in last.values()} == {1}
    assert {m.window.start_ms for m in last.values()} == {START + DAY}
    assert last["psi", "distance"].n == 400  # two days of events
    assert last["psi", "distance"].value < 0.01
    assert last["brier", None].n == 200  # the answers of version 1 only
    assert last["brier", None].value == pytest.approx(0.75**2)
    assert last["log_loss", None].value == pytest.approx(-np.log(0.25))
    assert last["log_loss", None].threshold == pytest.approx(0.69 * 1.25)
    assert last["accuracy", None].value == 0


def test_a_standing_excursion_is_told_once_whichever_model_is_live(
    log: MonitoredLog, tmp_path: Path
) -> None:
    with closing(log.monitor(tmp_path)) as worker:
        _calm_days_and_a_model(log, worker, tmp_path)
        _play(log, worker, 2, distance=5.0)
        _play(log, worker, 3, distance=5.0)
        assert [(a.model_version, a.state, a.action) for a in log.alerts()] == [
            (1, "suspected", "none: suspected"),
            (1, "confirmed", "retrain"),
        ]
        assert log.retrains()[-1].reason.startswith("alert: PSI of distance")

        log.put_live(2, [feature_rows(0, [START] * 9, [0.5] * 9)], tmp_path)
        _play(log, worker, 4, distance=5.0)
        _play(log, worker, 5, distance=5.0)

    assert [a.model_version for a in log.alerts()] == [1, 1]
    newest = [m for m in log.metrics() if (m.metric, m.feature) == ("psi", "distance")][-1]
    assert newest.model_version == 2
    assert newest.value > 0.25  # it still stands in alarm


@pytest.mark.parametrize("lost", [False, True], ids=["snapshot kept", "snapshot lost"])
def test_a_crash_changes_nothing_and_repeats_nothing(
    bootstrap: str, tmp_path: Path, lost: bool
) -> None:
    calm, crashed = MonitoredLog.new(bootstrap), MonitoredLog.new(bootstrap)
    for log in (calm, crashed):
        folder = tmp_path / log.topics.name
        with _crashing(log.monitor(folder)) as worker:
            _calm_days_and_a_model(log, worker, folder)
            _play(log, worker, 2)
            log.produce(log.topics.labels, 0, [b"no label"])
            _play(log, worker, 3, **DRIFTED)
            if log is calm:
                _play(log, worker, 4, **DRIFTED)
                continue
            log.add_day(START + 4 * DAY, 200, version=1, **DRIFTED)  # type: ignore[arg-type]
            worker.turn()
        if lost:
            shutil.rmtree(folder / "monitor")
        with closing(log.monitor(folder)) as worker:
            log.drain(worker)
            log.advance(START + 5 * DAY)
            log.drain(worker)

    for log in (calm, crashed):
        assert len(log.alerts()) == 4
        assert len(read_dead_letters(bootstrap, log.topics.labels).offsets) == 1
        assert len(log.retrains()) == 2
    assert _content(crashed) == _content(calm)


def test_a_crash_after_the_outputs_and_before_the_snapshot_repeats_nothing(
    log: MonitoredLog, tmp_path: Path
) -> None:
    with _crashing(log.monitor(tmp_path)) as worker:
        _calm_days_and_a_model(log, worker, tmp_path)
        _play(log, worker, 2)
        shutil.copytree(tmp_path / "monitor", tmp_path / "before")
        _play(log, worker, 3, **DRIFTED)
        _play(log, worker, 4, **DRIFTED)
    before = _content(log)
    shutil.rmtree(tmp_path / "monitor")
    (tmp_path / "before").rename(tmp_path / "monitor")

    for _ in range(2):  # and the same when it crashes again
        with _crashing(log.monitor(tmp_path)) as worker:
            turn_until(worker, lambda: worker.state.closed_ms == START + 5 * DAY)

    assert _content(log) == before
    assert len(log.retrains()) == 2


def test_unusable_labels_become_dead_letters_with_the_reason(
    log: MonitoredLog, tmp_path: Path
) -> None:
    with closing(log.monitor(tmp_path)) as worker:
        rows = log.add_day(START, 200)[1]
        log.produce(log.topics.labels, 1, [b"{"])
        log.add_labels(1, ["unknown", rows.event_ids[0]], [START, START + HOUR], [1.0, 99.0])
        log.drain(worker)
        log.advance(START + DAY)
        log.drain(worker)

    dead = read_dead_letters(log.bootstrap, log.topics.labels)
    assert dict(zip(dead.errors, dead.offsets.tolist(), strict=True)) == {
        "DecodeError": 100,
        "OrphanLabel": 101,
        "DuplicateLabel": 102,
    }
    assert set(dead.partitions.tolist()) == {1}
    brier = _of_all(log, "brier")
    assert [m.n for m in brier] == [200]


def test_an_advance_waits_for_all_that_stands_in_the_inputs(
    log: MonitoredLog, tmp_path: Path
) -> None:
    events = 3 * MAX_BATCH  # more than the monitor reads before it looks at the commands
    log.add_day(START, events)
    log.advance(START + DAY)

    with closing(log.monitor(tmp_path)) as worker:
        log.drain(worker)

    assert [m.n for m in _of_all(log, "accuracy")] == [events]


def test_without_commands_a_step_closes_when_events_and_labels_have_passed_it(
    log: MonitoredLog, tmp_path: Path
) -> None:
    with closing(log.monitor(tmp_path)) as worker:
        log.add_day(START, 200)
        log.drain(worker)
        assert worker.state.closed_ms is None

        log.add_day(START + DAY, 200)
        log.drain(worker)
        turn_until(worker, lambda: worker.state.closed_ms == START + DAY)

    windows = [m.window.end_ms for m in _of_all(log, "brier")]
    assert windows == [START + DAY]


def test_repeated_feature_records_count_once(log: MonitoredLog, tmp_path: Path) -> None:
    with closing(log.monitor(tmp_path)) as worker:
        _calm_days_and_a_model(log, worker, tmp_path)
        log.drain(worker)
        for rows in log.add_day(START + 2 * DAY, 200, version=1):
            log.add_features(rows)  # as a crashed feature worker may
        log.drain(worker)
        log.advance(START + 3 * DAY)
        log.drain(worker)

    counted = [m.n for m in log.metrics() if (m.metric, m.feature) == ("psi", "distance")]
    assert counted == [400]


def test_a_second_monitor_on_the_same_folder_is_refused(log: MonitoredLog, tmp_path: Path) -> None:
    with (
        closing(log.monitor(tmp_path)),
        pytest.raises(ConfigurationError, match="another monitor"),
    ):
        log.monitor(tmp_path)

    log.monitor(tmp_path).close()  # the folder is free again


def test_a_window_that_is_no_multiple_of_the_step_is_refused(
    log: MonitoredLog, tmp_path: Path
) -> None:
    with pytest.raises(DefinitionError, match="multiple of the pipeline's step"):
        log.monitor(tmp_path, (DataDrift(window="36h"), Performance()))


def test_the_process_ends_at_sigterm_with_its_state_saved(
    log: MonitoredLog, tmp_path: Path
) -> None:
    log.add_day(START, 200)
    drained = threading.Event()

    def end_when_drained() -> None:
        while any(log.lag().values()):
            pass
        drained.set()
        os.kill(os.getpid(), signal.SIGTERM)

    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    watcher = threading.Thread(target=end_when_drained)
    watcher.start()
    try:
        run_monitor(
            log.bootstrap,
            log.topics,
            (DEFINITION,),
            EVENTS,
            LABELS,
            MONITORS,
            TRAINING,
            "1d",
            tmp_path,
        )
    finally:
        watcher.join(30)
        for number, handler in handlers.items():
            signal.signal(number, handler)

    assert drained.is_set()
    with closing(log.monitor(tmp_path)) as worker:
        assert len(worker.state.matcher) == 200
