"""The monitor goes over to the features of another definition, open windows included."""

from contextlib import closing
from pathlib import Path

import pytest

from serving.monitoring.worker import MonitorWorker
from streams.wire import DefinitionChanged, Metric
from tests.serving.monitored import DAY, DEFINITION, PARTITIONS, START, V2, feature_rows
from tests.serving.monitored_log import MonitoredLog

pytestmark = pytest.mark.broker

TO_V2 = DefinitionChanged(1, 2, 1, 2, PARTITIONS, "a test")
BACK = DefinitionChanged(2, 1, 2, 1, PARTITIONS, "a test")


@pytest.fixture
def log(bootstrap: str) -> MonitoredLog:
    return MonitoredLog.new(bootstrap, V2)


def play(log: MonitoredLog, worker: MonitorWorker, day: int, version: int, now: int = 1) -> None:
    """Append a day and let the monitor close it; it then follows the definition ``now``."""
    log.add_day(START + day * DAY, 200, version=version, distance=5.0 if day > 2 else 0.0)
    log.advance(START + (day + 1) * DAY)
    log.drain(worker, DEFINITION if now == 1 else V2)


def models(log: MonitoredLog, folder: Path) -> None:
    """A model of each definition, both trained on days like the first ones."""
    times = [START + i * 400_000 for i in range(200)]
    wave = [(i * 7919 % 1000) / 1000 for i in range(200)]
    log.put_live(1, [feature_rows(0, times, wave)], folder)
    log.register(2, [feature_rows(0, times, wave, definition=V2)], folder, V2)


def drift(log: MonitoredLog, day: int) -> dict[str, Metric]:
    """Return the figures of drift of the window that ends with a day, by feature."""
    end_ms = START + (day + 1) * DAY
    return {m.feature: m for m in log.metrics() if m.feature and m.window.end_ms == end_ms}


def test_drift_is_that_of_the_definition_ordered_last(log: MonitoredLog, tmp_path: Path) -> None:
    models(log, tmp_path)
    with closing(log.monitor(tmp_path)) as worker:
        for day in range(2):
            play(log, worker, day, version=1)
        log.order(TO_V2)
        play(log, worker, 2, version=2, now=2)
        play(log, worker, 3, version=2, now=2)
    # Another process goes on from the state of the first, and back to the first definition.
    with closing(log.monitor(tmp_path)) as worker:
        play(log, worker, 4, version=2, now=2)
        log.order(BACK)
        play(log, worker, 5, version=1)
    names = [set(drift(log, day)) for day in range(6)]
    assert names == [{"distance", "kind"}] * 2 + [{"miles", "kind"}] * 3 + [{"distance", "kind"}]
    # The window of two days was counted whole, its day before the order too.
    assert [drift(log, day)["kind"].n for day in range(6)] == [200, 400, 400, 400, 400, 400]
    assert drift(log, 2)["miles"].value < 0.25 < drift(log, 3)["miles"].value
    told = [(alert.feature, alert.state) for alert in log.alerts() if alert.kind == "data_drift"]
    assert told == [("miles", "suspected"), ("miles", "confirmed"), ("distance", "suspected")]


def test_performance_goes_on_in_the_new_definitions_groups(
    log: MonitoredLog, tmp_path: Path
) -> None:
    models(log, tmp_path)
    with closing(log.monitor(tmp_path)) as worker:
        for day in range(2):
            play(log, worker, day, version=1)
        log.order(TO_V2)
        play(log, worker, 2, version=2, now=2)
        assert len(worker.state.matcher) == 600
        assert worker.state.groups.fields == ("user", "kind")
    figures = {
        (m.metric, m.n, m.model_version)
        for m in log.metrics()
        if m.feature is None and m.window.end_ms == START + 3 * DAY
    }
    assert any(n == 200 and version == 2 for _, n, version in figures)


def test_a_monitor_without_a_state_begins_with_the_definition_ordered_last(
    log: MonitoredLog, tmp_path: Path
) -> None:
    models(log, tmp_path)
    log.order(TO_V2)
    with closing(log.monitor(tmp_path)) as worker:
        for day in range(2):
            play(log, worker, day, version=2, now=2)
    assert set(drift(log, 1)) == {"miles", "kind"}
