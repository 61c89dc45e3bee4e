"""All five kinds of monitor in a process that is killed: the log is that of one that never was."""

import multiprocessing
import signal
import time
from contextlib import closing
from multiprocessing.context import SpawnProcess
from pathlib import Path
from random import Random

import msgspec
import numpy as np
import pytest

from serving.monitoring.worker import run_monitor
from serving.spec import ConceptDrift, DataDrift, Fairness, Monitor, Performance, PredictionDrift
from streams.topics import Topics
from tests.serving.monitored import DAY, DEFINITION, EVENTS, LABELS, START
from tests.serving.monitored_log import TRAINING, MonitoredLog

pytestmark = [pytest.mark.broker, pytest.mark.timeout(240)]

MONITORS: tuple[Monitor, ...] = (
    DataDrift(window="2d", minimum=50),
    PredictionDrift(window="2d", minimum=50),
    ConceptDrift(window="2d", minimum=50),
    Performance(window="2d", minimum=50),
    Fairness(window="2d", minimum=50),
)
PER_DAY = 2_000
CALM, DRIFTED = (2, 3), (4, 5, 6)
KILLED = {4: 1, 5: 2}
"""How often the monitor is killed while it takes and closes a day."""
WITHIN_S = 90.0


def test_a_monitor_that_is_killed_tells_the_same_once(bootstrap: str, tmp_path: Path) -> None:
    calm, killed = MonitoredLog.new(bootstrap), MonitoredLog.new(bootstrap)
    folders = {id(log): tmp_path / log.topics.name for log in (calm, killed)}
    for log in (calm, killed):
        with closing(log.monitor(folders[id(log)], MONITORS)) as worker:
            rows = log.add_day(START, PER_DAY) + log.add_day(START + DAY, PER_DAY)
            log.drain(worker)
            log.advance(START + 2 * DAY)
            log.drain(worker)
            scores = np.linspace(0.2, 0.8, PER_DAY)  # the days' are all the same: that is drift
            validation = scores, (np.arange(PER_DAY) % 2).astype(np.float64)
            log.put_live(1, rows, folders[id(log)], validation)
            for day in (*CALM, *DRIFTED) if log is calm else CALM:
                _append(log, day)
                log.drain(worker)

    random = Random(1)
    for day in DRIFTED:
        _append(killed, day)
        for _ in range(KILLED.get(day, 0)):
            _work_for(killed, folders[id(killed)], random.uniform(0.0, 0.4))
    process = _started(killed, folders[id(killed)])
    try:
        _await(killed)
    finally:
        process.kill()
        process.join()

    wanted = _told(calm)
    assert _told(killed) == wanted
    kinds = {alert.kind for alert in calm.alerts() if alert.state == "confirmed"}
    assert kinds >= {"data_drift", "prediction_drift", "performance"}
    names = {metric.metric for metric in calm.metrics()}
    assert names >= {"selection_ratio", "log_loss_change", "auc", "psi", "estimated_log_loss"}


def _append(log: MonitoredLog, day: int) -> None:
    """Append a day and say that it is over."""
    if day in DRIFTED:
        log.add_day(START + day * DAY, PER_DAY, version=1, distance=5.0, score=0.3, long=0.9)
    else:
        log.add_day(START + day * DAY, PER_DAY, version=1)
    log.advance(START + (day + 1) * DAY)


def _told(log: MonitoredLog) -> list[bytes]:
    """Return the figures and alerts, and what was asked for, with the topics' names taken out."""
    records = [*log.metrics(), *log.alerts(), *log.retrains()]
    name = log.topics.name.encode()
    return [msgspec.json.encode(record).replace(name, b"P") for record in records]


def _run(bootstrap: str, topics: Topics, home: Path) -> None:
    run_monitor(
        bootstrap, topics, (DEFINITION,), EVENTS, LABELS, MONITORS, TRAINING, "1d", home
    )  # fmt: skip


def _started(log: MonitoredLog, home: Path) -> SpawnProcess:
    process = multiprocessing.get_context("spawn").Process(
        target=_run, args=(log.bootstrap, log.topics, home)
    )
    process.start()
    return process


def _work_for(log: MonitoredLog, home: Path, seconds: float) -> None:
    """Let a monitor work until it has begun to, and so long after; then kill it."""
    process, before = _started(log, home), log.lag()
    deadline = time.monotonic() + WITHIN_S
    while log.lag() == before and any(before.values()):
        assert process.is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.join(seconds)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL


def _await(log: MonitoredLog) -> None:
    deadline = time.monotonic() + WITHIN_S
    while any(log.lag().values()):
        assert time.monotonic() < deadline, log.lag()
        time.sleep(0.05)
