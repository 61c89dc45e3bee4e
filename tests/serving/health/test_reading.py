"""Vitals read back: sums over processes, quantiles, rates; through a real broker too."""

import time
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import numpy as np
import pytest

from serving.health.broker import BrokerProbe, fullest_disk
from serving.health.gpu import GpuProbe
from serving.health.lag import Standing
from serving.health.picture import PictureReader, picture_of
from serving.health.probing import Probe
from serving.health.reading import VitalsFollower, hops_of, quantile_ms, rates_of
from serving.health.reporting import Reporter
from streams.clock import ManualClock
from streams.hops import Ledger, live
from streams.kafka_client import producer
from streams.topics import Topics, ensure_topics
from streams.wire import HOP_EDGES_MS, Vitals
from tests.serving.health.seen import GOOD, T0, S, hop, vitals


def test_the_ledger_counts_each_record_in_its_bin_and_tells_what_is_new() -> None:
    ledger = Ledger()
    times = np.array([0, 1, 2, 3, 60_001, -5])
    ledger.note("h", times)
    ledger.note_batch("h", 7.5, 4)
    (first,) = ledger.since_last()
    expected = [sum(1 for t in times if t <= 1), 1, 1, 4, *(0,) * 10, 1]
    assert (first.name, first.records, list(first.counts)) == ("h", 10, expected)
    assert ledger.since_last() == ()
    ledger.note("h", np.array([2]))
    assert ledger.since_last() == (hop("h", 0, 1),)
    total = ledger.totals()["h"]
    assert sum(total.counts) == 11
    assert total.sum_ms == 0 + 1 + 2 + 3 + 60_001 + 0 + 4 * 7.5 + 2


def test_event_times_of_a_replay_say_nothing_of_the_pipeline() -> None:
    years_ago, soon, ago = T0 - 10**11, T0 + 10 * S, T0 - 3 * S
    assert live(np.array([years_ago, ago, soon]), T0).tolist() == [3 * S, -10 * S]


def test_quantiles_of_a_histogram_lie_in_the_bin_of_the_true_ones() -> None:
    random = np.random.default_rng(3)
    taken = random.lognormal(4, 1.5, 50_000)
    ledger = Ledger()
    ledger.note("h", taken)
    counts = ledger.totals()["h"].counts
    for q in (0.01, 0.5, 0.9, 0.99):
        found, true = quantile_ms(counts, q), float(np.quantile(taken, q))
        edges = np.array((0, *HOP_EDGES_MS))
        assert found is not None
        assert np.searchsorted(edges, found) == np.searchsorted(edges, true)
    assert quantile_ms((0,) * 15, 0.5) is None
    assert quantile_ms((*(0,) * 14, 3), 0.5) == 60_000


def test_hops_of_several_processes_add_up_and_rates_are_by_their_own_time() -> None:
    reports = [
        vitals(T0 + i * 5 * S, worker, pid=pid, hops=(hop("h", 10, 5),))
        for i in range(3)
        for worker, pid in (("inference-a", 1), ("inference-b", 2))
    ]
    assert hops_of(reports) == {("inference", "h"): hop("h", 60, 30)}
    assert rates_of(reports) == {("inference", "h"): 2 * 30 / 10}
    assert rates_of(reports[:1]) == {}


def test_a_picture_shows_who_is_silent_who_stopped_and_what_is_behind() -> None:
    latest = [
        vitals(T0, "monitor-a"),
        vitals(T0 - 60 * S, "trainer-a", gpu_busy=0.5),
        vitals(T0 - 60 * S, "skew-a", figures={"stopped": 1.0}),
    ]
    standings = {"monitor": {"p.labels.v1": {0: Standing(None, 7), 1: Standing(3, 3)}}}
    picture = picture_of(T0, latest, [], standings, GOOD)
    states = {each.worker: each.state for each in picture.processes}
    assert states == {"monitor-a": "alive", "trainer-a": "silent", "skew-a": "stopped"}
    assert picture.lag[0].by_partition == {0: 7, 1: 0}
    assert asdict(picture)["broker"]["answers"] is True


class Nvml:
    """The library's interface, with two GPUs."""

    class NVMLError(Exception):
        """The driver refuses."""

    def __init__(self, *, driver: bool = True) -> None:
        self.driver, self.gone = driver, False

    def nvmlInit(self) -> None:  # noqa: N802
        if not self.driver:
            raise self.NVMLError("no driver")

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        return index

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> SimpleNamespace:  # noqa: N802
        if self.gone:
            raise self.NVMLError("gone")
        return SimpleNamespace(gpu=[20, 60][handle], memory=1)

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> SimpleNamespace:  # noqa: N802
        return SimpleNamespace(used=100 + handle, total=1000)


def test_gpus_are_looked_at_where_there_are_any_and_a_driver_that_goes_is_no_error() -> None:
    nvml = Nvml()
    probe = GpuProbe(nvml)
    use = probe.look()
    assert use is not None
    assert use.busy == pytest.approx(0.4)
    assert use.memory_bytes == 201
    nvml.gone = True
    assert probe.look() is None
    assert probe.look() is None
    assert GpuProbe(Nvml(driver=False)).look() is None


def test_the_disk_of_the_brokers_is_the_fullest_by_share() -> None:
    answers = [
        {"log_dirs": [{"usable_bytes": 50, "total_bytes": 100}]},
        {"log_dirs": [{"usable_bytes": 20, "total_bytes": 100}, {"usable_bytes": -1}]},
    ]
    assert fullest_disk(answers) == (20, 100)
    assert fullest_disk([{"log_dirs": []}]) == (None, None)


def test_a_reporter_outlives_whatever_fails_and_a_broker_that_is_away(tmp_path: Path) -> None:
    heard: list[Vitals] = []
    calls = iter([ValueError("figures fail"), *(None,) * 100])

    def figures() -> dict[str, float]:
        failure = next(calls)
        if failure is not None:
            raise failure
        return {"own": 1.0}

    probe = Probe("monitor-a", "monitor", tmp_path, Ledger())
    reporter = Reporter("127.0.0.1:1", "p.health.v1", probe, figures, every_s=0.01,
                        listen=heard.append)  # fmt: skip
    with reporter:
        deadline_s = time.monotonic() + 30
        while len(heard) < 3:
            assert time.monotonic() < deadline_s
            time.sleep(0.01)
    assert heard[0].figures["own"] == 1.0
    assert heard[-1].figures["stopped"] == 1.0
    assert heard[0].memory_bytes > 1 << 20
    assert heard[0].disk_free_bytes


@pytest.mark.broker
def test_reports_are_read_back_and_put_into_a_picture(bootstrap: str, tmp_path: Path) -> None:
    topics = Topics(f"t{uuid4().hex[:8]}")
    ensure_topics(bootstrap, topics.specs(2))
    other = producer(bootstrap)
    other.produce(topics.health, b"no vitals")
    assert other.flush(30) == 0
    ledger = Ledger()
    ledger.note("h", np.array([3, 4]))
    began = ManualClock(T0)
    follower = VitalsFollower(bootstrap, topics.health, 0)
    with Reporter(
        bootstrap, topics.health, Probe("trainer-a", "trainer", tmp_path, ledger, clock=began),
        every_s=60,
    ):  # fmt: skip
        came: list[Vitals] = []
        while not came:
            came = follower.poll(1.0)
        assert came[0].hops == (hop("h", 0, 0, 2),)
    came = []
    while not came:
        came = follower.poll(1.0)
    assert came[-1].figures["stopped"] == 1.0
    assert follower.latest["trainer-a"] == came[-1]
    follower.close()

    reader = PictureReader(bootstrap, topics, 2, {}, clock=began)
    picture = reader.look()
    reader.close()
    assert picture.broker.answers
    assert picture.broker.partitions >= 20
    assert [(p.worker, p.state) for p in picture.processes] == [("trainer-a", "stopped")]
    assert {p.role for p in picture.lag} >= {"features", "monitor", "trainer"}


def test_brokers_that_are_not_there_do_not_answer() -> None:
    probe = BrokerProbe("127.0.0.1:1")
    assert not probe.look().answers
    probe.close()
