"""What a training takes of the machine: processors, memory, disk, network, GPUs.

The names are MLflow's own for system metrics, so its page of them shows these. Counters (disk,
network) are megabytes since the sampling began.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import psutil

MEGABYTE = 1e6


class Gpus(Protocol):
    """The GPUs of this machine."""

    def sample(self) -> dict[str, float]:
        """Return their figures by name; empty where there are none."""
        ...


class SystemSampler:
    """Reads the machine's figures. The first sample begins the counters.

    Args:
        folder: whose disk is looked at.
        gpus: the GPUs; those that NVML finds by default.
    """

    def __init__(self, folder: Path, gpus: Gpus | None = None) -> None:
        self._folder, self._gpus = folder, NvmlGpus() if gpus is None else gpus
        self._began: dict[str, float] = {}
        psutil.cpu_percent()  # the first call begins the interval that the next one tells of

    def sample(self) -> dict[str, float]:
        """Return the figures now by their MLflow names, ``system/...``."""
        disk = shutil.disk_usage(self._existing())
        figures = {
            "disk_usage_megabytes": disk.used / MEGABYTE,
            "disk_usage_percentage": 100 * disk.used / disk.total,
            **self._of_psutil(),
            **self._gpus.sample(),
        }
        return {f"system/{name}": value for name, value in figures.items()}

    def _of_psutil(self) -> dict[str, float]:
        memory = psutil.virtual_memory()
        counters: dict[str, float] = {}
        disk, network = psutil.disk_io_counters(), psutil.net_io_counters()
        if disk is not None:
            counters |= {"disk_read_megabytes": disk.read_bytes,
                         "disk_write_megabytes": disk.write_bytes}  # fmt: skip
        if network is not None:
            counters |= {"network_receive_megabytes": network.bytes_recv,
                         "network_transmit_megabytes": network.bytes_sent}  # fmt: skip
        since = {
            name: (value - self._began.setdefault(name, value)) / MEGABYTE
            for name, value in counters.items()
        }
        return {
            "cpu_utilization_percentage": psutil.cpu_percent(),
            "system_memory_usage_megabytes": memory.used / MEGABYTE,
            "system_memory_usage_percentage": memory.percent,
            **_memory_of_processes(),
            **since,
        }

    def _existing(self) -> Path:
        return next(path for path in (self._folder, *self._folder.parents) if path.exists())


def _memory_of_processes() -> dict[str, float]:
    """Return the resident memory of this process, and of those below it: agent and ranks."""
    own = psutil.Process()
    children = 0.0
    for child in own.children(recursive=True):
        with suppress(psutil.Error):  # ended meanwhile
            children += child.memory_info().rss
    return {
        "process_memory_megabytes": own.memory_info().rss / MEGABYTE,
        "ranks_memory_megabytes": children / MEGABYTE,
    }


class NvmlGpus:
    """NVIDIA's GPUs, by NVML where its Python binding (``nvidia-ml-py``) is installed."""

    def __init__(self) -> None:
        self._nvml: Any = None
        self._handles: list[Any] = []
        with suppress(Exception):  # no binding, no driver, no GPU: there is nothing to show
            nvml = import_module("pynvml")
            nvml.nvmlInit()
            self._handles = [
                nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())
            ]
            self._nvml = nvml

    def sample(self) -> dict[str, float]:
        """Return utilisation, memory and power of each GPU; what one can't tell is left out."""
        figures: dict[str, float] = {}
        for i, handle in enumerate(self._handles):
            with suppress(Exception):  # NVMLError: MIG slices tell no utilisation
                memory = self._nvml.nvmlDeviceGetMemoryInfo(handle)
                figures[f"gpu_{i}_memory_usage_megabytes"] = memory.used / MEGABYTE
                figures[f"gpu_{i}_memory_usage_percentage"] = 100 * memory.used / memory.total
            with suppress(Exception):
                rates = self._nvml.nvmlDeviceGetUtilizationRates(handle)
                figures[f"gpu_{i}_utilization_percentage"] = float(rates.gpu)
            with suppress(Exception):
                watts = self._nvml.nvmlDeviceGetPowerUsage(handle) / 1000
                figures[f"gpu_{i}_power_usage_watts"] = watts
        return figures
