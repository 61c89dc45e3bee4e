"""What an exercise ran on, and what the GPUs' makers say they can. torch alone, where asked."""

import os
import platform
from typing import Literal

Precision = Literal["float32", "tf32", "bfloat16", "float16"]

PEAKS: dict[str, dict[str, float]] = {
    "B200": {"float32": 80e12, "tf32": 1.1e15, "half": 2.25e15},
    "H200": {"float32": 67e12, "tf32": 494.7e12, "half": 989.4e12},
    "H100 PCIe": {"float32": 51e12, "tf32": 378e12, "half": 756e12},
    "H100": {"float32": 67e12, "tf32": 494.7e12, "half": 989.4e12},
    "A100": {"float32": 19.5e12, "tf32": 156e12, "half": 312e12},
    "A40": {"float32": 37.4e12, "tf32": 74.8e12, "half": 149.7e12},
    "A10": {"float32": 31.2e12, "tf32": 62.5e12, "half": 125e12},
    "L40S": {"float32": 91.6e12, "tf32": 183e12, "half": 362e12},
    "L4": {"float32": 30.3e12, "tf32": 60e12, "half": 121e12},
    "V100": {"float32": 15.7e12, "half": 125e12},
    "T4": {"float32": 8.1e12, "half": 65e12},
    "RTX 4090": {"float32": 82.6e12, "tf32": 82.6e12, "half": 165.2e12},
    "RTX 3090": {"float32": 35.6e12, "tf32": 35.6e12, "half": 71e12},
}
"""Dense operations per second, by the makers' data sheets; "half" is bfloat16 and float16.

The first name that a device's own contains counts, so longer names stand before their beginnings.
"""


def peak_flops(device: str, precision: str) -> float | None:
    """Return the device's peak operations per second, or None where it is not known.

    >>> peak_flops("NVIDIA A100-SXM4-80GB", "bfloat16")
    312000000000000.0
    """
    kind = "half" if precision in ("bfloat16", "float16") else precision
    for name, peaks in PEAKS.items():
        if name.lower() in device.lower():
            return peaks.get(kind)
    return None


def machine_facts(on_gpu: bool) -> dict[str, str]:
    """Return what a reader of figures has to know of the machine: name → text."""
    import torch

    facts = {
        "device": device_name(on_gpu),
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else "?"),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "load": f"{os.getloadavg()[0]:.1f} processes ready to run, mean of the last minute",
        "system": f"{platform.system()} {platform.machine()}",
    }
    if on_gpu:
        facts["GPUs"] = str(torch.cuda.device_count())
        facts["CUDA"] = str(torch.version.cuda)
    return facts


def device_name(on_gpu: bool) -> str:
    """Return the name of the first GPU, or of the processor."""
    import torch

    if on_gpu:
        return torch.cuda.get_device_name(0)
    try:
        with open("/proc/cpuinfo") as info:
            names = [line.partition(":")[2].strip() for line in info if "model name" in line]
        return names[0]
    except (OSError, IndexError):
        return platform.processor() or "CPU"
