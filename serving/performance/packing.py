"""Sums per key and step as plain arrays, for snapshots: only what is not 0 is kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.monitoring.windows import StepSums


def pack(sums: StepSums, name: str) -> tuple[list[list[Any]], dict[str, NDArray[Any]]]:
    """Return (key, start, width) of each vector, and arrays whose names begin with ``name``."""
    keys: list[list[Any]] = []
    places, values, counts = [np.empty(0, np.int32)], [np.empty(0, np.int64)], []
    for key, start, total in sums.items():
        filled = np.flatnonzero(total)
        keys.append([key, start, len(total)])
        places.append(filled.astype(np.int32))
        values.append(total[filled])
        counts.append(len(filled))
    return keys, {
        f"{name}_counts": np.array(counts, np.int64),
        f"{name}_places": np.concatenate(places),
        f"{name}_values": np.concatenate(values),
    }


def unpack(
    step_ms: int, keys: list[list[Any]], arrays: Mapping[str, NDArray[Any]], name: str
) -> StepSums:
    """Return what :func:`pack` packed."""
    sums = StepSums(step_ms)
    ends = np.cumsum(arrays[f"{name}_counts"]).tolist()
    places, values = arrays[f"{name}_places"], arrays[f"{name}_values"]
    for (key, start, width), begin, end in zip(keys, [0, *ends], ends, strict=False):
        total = np.zeros(int(width), np.int64)
        total[places[begin:end]] = values[begin:end]
        sums.add_total(str(key), int(start), total)
    return sums
