"""How this process and its machine are: CPU, memory, disk, network, GPU."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Mapping
from pathlib import Path

import psutil

from serving.health.gpu import GpuProbe
from streams.clock import Clock, SystemClock
from streams.hops import LEDGER, Ledger
from streams.wire import Vitals

STOPPED = "stopped"
"""A figure of the last report of a process that ends in order."""


class Probe:
    """Looks at this process, and says it as vitals.

    Args:
        worker: the process's lasting name.
        role: its role.
        folder: on the disk whose free space is told; the state's.
        ledger: what passes through the process.
    """

    def __init__(
        self,
        worker: str,
        role: str,
        folder: Path,
        ledger: Ledger = LEDGER,
        gpu: GpuProbe | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.worker, self.role = worker, role
        self._folder, self._ledger = folder, ledger
        self._gpu, self._clock = gpu or GpuProbe(), clock or SystemClock()
        self._process = psutil.Process()
        self._process.cpu_percent()  # the share is that of the time between two questions
        self._began_ms = int(self._process.create_time() * 1000)
        self._host = socket.gethostname()

    def look(self, figures: Mapping[str, float]) -> Vitals:
        """Return how it is, with ``figures`` of its own; hops since the last call."""
        with self._process.oneshot():
            cpu = self._process.cpu_percent() / 100
            memory_bytes = int(self._process.memory_info().rss)
        gpu = self._gpu.look()
        network = _network()
        own = {f"records/{topic}": float(n) for topic, n in self._ledger.records().items()}
        own |= {f"dead_letters/{topic}": float(n) for topic, n in self._ledger.dead().items()}
        return Vitals(
            worker=self.worker,
            role=self.role,
            at_ms=self._clock.now_ms(),
            began_ms=self._began_ms,
            pid=os.getpid(),
            cpu=round(cpu, 4),
            memory_bytes=memory_bytes,
            host=self._host,
            disk_free_bytes=_free_bytes(self._folder),
            network_in_bytes=None if network is None else network[0],
            network_out_bytes=None if network is None else network[1],
            gpu_busy=None if gpu is None else round(gpu.busy, 4),
            gpu_memory_bytes=None if gpu is None else gpu.memory_bytes,
            hops=self._ledger.since_last(),
            figures={**own, **self._ledger.figures(), **figures},
        )


def _free_bytes(folder: Path) -> int | None:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None


def _network() -> tuple[int, int] | None:
    """Return bytes received and sent by the machine since its start."""
    try:
        found = psutil.net_io_counters()
    except OSError:
        return None
    return None if found is None else (found.bytes_recv, found.bytes_sent)
