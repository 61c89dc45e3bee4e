"""The monitor goes on counting while versions learned online take each other's place."""

from contextlib import closing
from pathlib import Path

import pytest

from streams.control import ControlWriter
from streams.wire import Registered, StageChanged
from tests.serving.monitored import DAY, START, feature_rows
from tests.serving.monitored_log import MonitoredLog

pytestmark = pytest.mark.broker


def test_their_reference_is_their_base_s(bootstrap: str, tmp_path: Path) -> None:
    log = MonitoredLog.new(bootstrap)
    times = [START + i * 400_000 for i in range(200)]
    wave = [(i * 7919 % 1000) / 1000 for i in range(200)]
    log.put_live(1, [feature_rows(0, times, wave)], tmp_path)
    writer = ControlWriter(bootstrap)
    with closing(log.monitor(tmp_path)) as worker:
        for day in range(3):
            log.add_day(START + day * DAY, 200, version=day + 1)
            if day:  # its package was removed, as of one that newer ones have replaced
                manifest = {"online": {}, "parent": {"version": 1}}
                uri, version = (tmp_path / "removed").as_uri(), day + 1
                made = Registered(version, f"online-{day}", uri, "0" * 64, manifest, {}, None)
                writer.append_model_event(log.topics.models, made)
                writer.append_model_event(
                    log.topics.models, StageChanged(version, "live", "a test", by="online")
                )
            log.advance(START + (day + 1) * DAY)
            log.drain(worker)
    drift = {
        (m.model_version, m.n) for m in log.metrics() if m.metric == "psi" and m.feature == "kind"
    }
    assert drift == {(1, 200), (2, 400), (3, 400)}
