"""``/metrics`` of a process, in Prometheus' text format.

The names follow its conventions: the unit at the end, ``_total`` for what only grows, base units.
The process's own memory, CPU and file figures (``process_*``) are those of the client library.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import structlog

from serving.health.reading import figures_under
from streams.errors import ConfigurationError
from streams.hops import LEDGER, HopTotal, Ledger
from streams.wire import HOP_EDGES_MS, Vitals

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric

LOOPBACK = "127.0.0.1"

_LOG = structlog.get_logger(__name__)

GAUGES = {
    "lag": ("kappa_lag_records", "Records not yet committed.", ("reader", "topic", "partition")),
    "state": ("kappa_process_running", "Whether a process runs (1) or not (0).", ("process",)),
    "broker/up": ("kappa_broker_up", "Whether the brokers answer.", ()),
    "broker/answer_ms": ("kappa_broker_answer_seconds", "How long an answer took.", ()),
    "broker/brokers": ("kappa_brokers", "Brokers in the cluster.", ()),
    "broker/under_replicated": (
        "kappa_broker_under_replicated_partitions", "Partitions with a replica out of sync.", (),
    ),
    "broker/offline": ("kappa_broker_offline_partitions", "Partitions without a leader.", ()),
    "broker/free_bytes": (
        "kappa_broker_disk_free_bytes", "What is left of the brokers' fullest disk.", (),
    ),
    "alerts": ("kappa_health_alerts", "Health alerts that stand.", ("metric",)),
}  # fmt: skip
"""Figures of vitals by the beginning of their names → metric, its text, and its labels."""

COUNTERS = {
    "restarts": ("kappa_process_restarts", "Restarts of a process.", ("process",)),
    "dead_records": (
        "kappa_dead_letter_records",
        "Records in a topic of dead letters.",
        ("topic",),
    ),
}
OWN = {
    "disk_free_bytes": ("kappa_disk_free_bytes", "What is left of the disk with the state."),
    "gpu_busy": ("kappa_gpu_busy_ratio", "Share of time in which the GPUs work, their mean."),
    "gpu_memory_bytes": ("kappa_gpu_memory_bytes", "Memory in use on the GPUs."),
}
"""Fields of vitals → gauge and its text."""

OWN_COUNTERS = {
    "network_in_bytes": ("kappa_network_received_bytes", "Received by the machine."),
    "network_out_bytes": ("kappa_network_sent_bytes", "Sent by the machine."),
}
"""Fields of vitals → counter and its text."""


class Exported:
    """A collector of this process's figures: its ledger, and the report made last."""

    def __init__(self, role: str, ledger: Ledger = LEDGER) -> None:
        self.role, self._ledger = role, ledger
        self._vitals: Vitals | None = None
        self._lock = threading.Lock()

    def listen(self, vitals: Vitals) -> None:
        """Take over what the reporter says."""
        with self._lock:
            self._vitals = vitals

    def collect(self) -> Iterator[Metric]:
        """Yield what Prometheus asks for."""
        yield from self._passed()
        with self._lock:
            vitals = self._vitals
        if vitals is not None:
            yield from self._reported(vitals)

    def _passed(self) -> Iterator[Metric]:
        from prometheus_client import core

        records = core.CounterMetricFamily(
            "kappa_records", "Records that passed.", labels=("role", "topic")
        )
        for topic, n in self._ledger.records().items():
            records.add_metric((self.role, topic), n)
        yield records
        dead = core.CounterMetricFamily(
            "kappa_dead_letters", "Records that nobody can use.", labels=("role", "topic")
        )
        for topic, n in self._ledger.dead().items():
            dead.add_metric((self.role, topic), n)
        yield dead
        seconds = core.HistogramMetricFamily(
            "kappa_hop_seconds", "How long a hop took a record.", labels=("role", "hop")
        )
        for name, total in self._ledger.totals().items():
            seconds.add_metric((self.role, name), buckets_of(total), total.sum_ms / 1000)
        yield seconds

    def _reported(self, vitals: Vitals) -> Iterator[Metric]:
        from prometheus_client import core

        for make, fields in (
            (core.GaugeMetricFamily, OWN),
            (core.CounterMetricFamily, OWN_COUNTERS),
        ):
            for field, (name, text) in fields.items():
                value = getattr(vitals, field)
                if value is not None:
                    family = make(name, text, labels=("role",))
                    family.add_metric((self.role,), value)
                    yield family
        yield from _families(core.GaugeMetricFamily, GAUGES, vitals)
        yield from _families(core.CounterMetricFamily, COUNTERS, vitals)


def _families(
    make: Any, declared: Mapping[str, tuple[str, str, tuple[str, ...]]], vitals: Vitals
) -> Iterator[Metric]:
    for beginning, (name, text, labels) in declared.items():
        scale = 1000 if beginning.endswith("_ms") else 1
        family = make(name, text, labels=labels)
        if labels:
            found = figures_under(vitals.figures, beginning)
            samples = [(tuple(about.split("/")), value) for about, value in found.items()]
        else:
            value = vitals.figures.get(beginning)
            samples = [] if value is None else [((), value)]
        for about, value in samples:
            if len(about) == len(labels):
                family.add_metric(about, value / scale)
        if family.samples:
            yield family


def buckets_of(total: HopTotal) -> list[tuple[str, float]]:
    """Return a histogram's cumulative buckets, upper bound in seconds → records.

    >>> buckets_of(HopTotal((2, 1) + 13 * (0,), 3.0))[:2]
    [('0.001', 2), ('0.002', 3)]
    """
    edges = [*(f"{edge / 1000:g}" for edge in HOP_EDGES_MS), "+Inf"]
    below, found = 0, list[tuple[str, float]]()
    for edge, n in zip(edges, total.counts, strict=True):
        below += n
        found.append((edge, below))
    return found


def registry_of(exported: Exported) -> CollectorRegistry:
    """Return what a process shows."""
    import prometheus_client as client

    registry = client.CollectorRegistry()
    client.ProcessCollector(registry=registry)
    client.PlatformCollector(registry=registry)
    registry.register(exported)
    return registry


@contextmanager
def shown(exported: Exported, port: int, host: str = LOOPBACK) -> Iterator[int]:
    """Show it at ``http://host:port/metrics``; yield the port, which is a free one for 0.

    Raises:
        ConfigurationError: the port is taken, or the address not this machine's.
    """
    import prometheus_client as client

    try:
        server, thread = client.start_http_server(port, host, registry_of(exported))
    except OSError as error:
        raise ConfigurationError(
            f"KAPPA_METRICS_PORT={port}: nothing can listen on {host}:{port} ({error}); choose "
            "another port, or another address by KAPPA_METRICS_HOST"
        ) from error
    _LOG.info("metrics are shown", url=f"http://{host}:{server.server_port}/metrics")
    try:
        yield int(server.server_port)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
