"""How busy the GPUs are, by NVML, where there is a driver."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

import structlog

_LOG = structlog.get_logger(__name__)


@dataclass(frozen=True)
class GpuUse:
    """All GPUs of the machine together: ``busy`` is the mean share of time, in [0, 1]."""

    busy: float
    memory_bytes: int


class Nvml(Protocol):
    """What is used of the library ``pynvml``; a test gives a stand-in."""

    @property
    def NVMLError(self) -> type[Exception]:  # noqa: N802
        """What it raises."""
        ...

    def nvmlInit(self) -> None:  # noqa: N802
        """Connect to the driver; raises NVMLError where there is none."""
        ...

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        """Return how many GPUs there are."""
        ...

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Any:  # noqa: N802
        """Return one of them."""
        ...

    def nvmlDeviceGetUtilizationRates(self, handle: Any) -> Any:  # noqa: N802
        """Return its utilisation; ``gpu`` is in per cent."""
        ...

    def nvmlDeviceGetMemoryInfo(self, handle: Any) -> Any:  # noqa: N802
        """Return its memory; ``used`` is in bytes."""
        ...


class GpuProbe:
    """Asks NVML. Where there is no driver it is asked once, and costs nothing from then on."""

    def __init__(self, nvml: Nvml | None = None) -> None:
        self._nvml = nvml
        self._handles: list[Any] | None = None

    def look(self) -> GpuUse | None:
        """Return how busy the GPUs are; None without any."""
        if self._handles is None:
            self._handles = self._open()
        if not self._handles or self._nvml is None:
            return None
        busy, used = 0.0, 0
        try:
            for handle in self._handles:
                busy += self._nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100
                used += int(self._nvml.nvmlDeviceGetMemoryInfo(handle).used)
        except self._nvml.NVMLError as error:
            _LOG.warning("the GPUs are not looked at any more", why=str(error))
            self._handles = []
            return None
        return GpuUse(busy / len(self._handles), used)

    def _open(self) -> list[Any]:
        try:
            nvml = self._nvml or import_module("pynvml")
        except ImportError:
            return []
        try:
            nvml.nvmlInit()
            self._nvml = nvml
            return [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]
        except nvml.NVMLError:
            return []  # no driver, which is what most machines have
