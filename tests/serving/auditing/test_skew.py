"""The skew audit's process: figures, alerts and the account, on a real broker."""

import threading
from pathlib import Path
from uuid import uuid4

import msgspec
import pytest

from features.processing.stages import Stage
from serving.auditing.skew import SkewOptions, SkewWorker, skew_account
from serving.monitoring.outbox import Outbox
from streams.replay import offset_bounds, read_ranges
from streams.topics import Topics
from streams.wire import Alert, Metric, Window
from tests.features.payments import payments, prepared, send
from tests.features.served import Server, Tamper, stage_of

pytestmark = [
    pytest.mark.broker,
    # kafka-python 3 leaves the self-pipe of a closed administration client to the collector
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

NOW = SkewOptions(patience_s=0.0)


class Audited:
    """A pipeline whose features are served, and what its audit has told."""

    def __init__(self, bootstrap: str, home: Path) -> None:
        self.bootstrap, self.home = bootstrap, home
        self.topics = prepared(bootstrap, f"t{uuid4().hex[:8]}")
        self.stage: Stage = stage_of(self.topics)
        self.server = Server(bootstrap, self.stage, home)
        self.produced = 0

    def serve(self, tamper: Tamper | None = None, n: int = 200) -> None:
        send(self.bootstrap, self.topics, payments(self.produced, n, bad=False))
        self.produced += n
        self.server.serve(tamper)

    def worker(self) -> SkewWorker:
        return SkewWorker(self.bootstrap, lambda: [self.stage], self.home, NOW)

    def told(self, worker: SkewWorker) -> None:
        """Let a worker audit everything and tell it."""
        while worker.turn():
            pass
        worker.tell()

    def metrics(self) -> list[Metric]:
        return [
            msgspec.json.decode(v, type=Metric) for v in _all(self.bootstrap, self.topics.metrics)
        ]

    def alerts(self) -> list[Alert]:
        return [
            msgspec.json.decode(v, type=Alert) for v in _all(self.bootstrap, self.topics.alerts)
        ]


def _all(bootstrap: str, topic: str) -> list[bytes]:
    batches = read_ranges(bootstrap, topic, offset_bounds(bootstrap, topic, 1))
    return [value for batch in batches for value in batch.values if value is not None]


@pytest.fixture
def audited(bootstrap: str, tmp_path: Path) -> Audited:
    return Audited(bootstrap, tmp_path)


def wrong(partition: int, offset: int, value: bytes) -> list[bytes]:
    """Serve another amount where partition 1 has offsets from 20 on."""
    if partition != 1 or offset < 20:
        return [value]
    record = msgspec.json.decode(value)
    record["features"]["amount"] = -3.5
    return [msgspec.json.encode(record)]


def test_what_is_right_gives_figures_and_an_account(audited: Audited) -> None:
    assert "never compared" in str(skew_account(audited.bootstrap, audited.stage))
    audited.serve()
    worker = audited.worker()
    audited.told(worker)
    features, online = audited.metrics()
    assert (features.metric, features.feature) == ("feature_skew", audited.stage.output)
    assert (features.value, features.threshold, features.n) == (0.0, 0.0, 200)
    assert features.window.start_ms < features.window.end_ms
    assert (online.metric, online.value, online.n) == ("online_skew", 0.0, 40)
    assert audited.alerts() == []

    audited.serve()
    account = skew_account(audited.bootstrap, audited.stage)
    assert (account.compared, account.different, account.behind) == (200, 0, 200)
    assert "200 records compared with the log up to 0: " in str(account)
    assert "none different; 200 events behind" in str(account)
    worker.close()

    again = audited.worker()  # after a restart it goes on: nothing is counted twice
    audited.told(again)
    again.close()
    account = skew_account(audited.bootstrap, audited.stage)
    assert (account.compared, account.different, account.behind) == (400, 0, 0)
    assert sum(account.upto.values()) == 400


def test_a_difference_raises_one_alert_while_it_stands(audited: Audited) -> None:
    audited.serve(wrong)
    worker = audited.worker()
    audited.told(worker)
    (alert,) = audited.alerts()
    assert (alert.kind, alert.metric, alert.feature) == ("skew", "feature_skew", "amount")
    assert alert.n == 200
    assert 0 < alert.value < 1
    assert "partition 1, event 20: amount of entity 'card" in alert.cause
    assert "was served as -3.5, the log gives" in alert.cause
    assert set(alert.offsets) == {audited.topics.events}

    audited.serve(wrong)
    audited.told(worker)
    assert len(audited.alerts()) == 1, "it stands"
    audited.serve()
    audited.told(worker)
    audited.serve(wrong)
    audited.told(worker)
    assert len(audited.alerts()) == 2, "it had gone, and came back"
    worker.close()
    account = skew_account(audited.bootstrap, audited.stage)
    assert account.different > 0
    assert f"{account.different:,} different" in str(account)


def test_at_a_stop_the_process_tells_and_saves(audited: Audited) -> None:
    audited.serve(wrong)
    worker = audited.worker()
    stop = threading.Event()
    running = threading.Thread(target=worker.run, args=[stop])
    running.start()
    while not worker.audited:
        assert running.is_alive()
        stop.wait(0.01)
    stop.set()
    running.join(30)
    assert not running.is_alive()
    worker.close()
    assert len(audited.alerts()) == 1
    assert skew_account(audited.bootstrap, audited.stage).compared == 200


def test_the_monitor_takes_no_notice_of_the_figures(bootstrap: str, audited: Audited) -> None:
    audited.serve()
    worker = audited.worker()
    audited.told(worker)
    worker.close()
    topics: Topics = audited.topics
    # A window long before those of the audit: a monitor has not told of it yet.
    own = Metric("log_loss", None, 0.5, None, 3, Window(0, 10), 1)
    outbox = Outbox(bootstrap, topics, {})
    outbox.metric(own, 10)
    outbox.flush()
    assert audited.metrics()[-1] == own
