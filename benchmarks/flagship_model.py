"""A package of the flagship's shape, and how quickly its network runs at several sizes of batch."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from examples.citibike import pipeline
from features.records import FeatureRows
from training.calibration import Platt
from training.dataset.encoding import Encoding
from training.networks.shape import Shape
from training.onnx_runtime import OnnxNetwork, random_inputs
from training.package import load_parts, save_package
from training.reference import Reference
from training.torch_runtime import TorchNetwork

BATCHES = (1, 64, 1024)
SECONDS = 0.5


def save(folder: Path, rows: FeatureRows) -> str:
    """Write the package of an untrained network into ``folder`` and return its SHA-256."""
    import torch

    from training.networks.build import build

    definition = pipeline.features
    encoding = Encoding.fit(definition.names("numeric"), definition.names("category"), rows)
    shape = Shape(encoding.numeric_width, encoding.code_counts, pipeline.model.network)
    torch.manual_seed(7)
    return save_package(
        folder,
        weights={name: weight.numpy() for name, weight in build(shape).state_dict().items()},
        shape=shape,
        task=pipeline.model.task,
        encoding=encoding,
        calibration=Platt(),
        reference=Reference.from_rows([rows], definition),
        metrics={},
        manifest={},
    )


def rates(package: Path, seconds: float = SECONDS) -> dict[str, float]:
    """Return rows per second of the network alone, on one thread, by what runs it and batch.

    torch is called as it is, with no rows that fill up: so its bits depend on the batch.
    """
    parts = load_parts(str(package))
    if parts.onnx is None:
        raise SystemExit(f"the network was not exported: {parts.manifest['onnx']}")
    networks: dict[str, Callable[..., Any]] = {
        "torch": TorchNetwork(parts.weights, parts.shape),
        "onnxruntime": OnnxNetwork(parts.onnx, parts.shape),
    }
    found: dict[str, float] = {}
    for rows in BATCHES:
        inputs = random_inputs(parts.shape, rows)
        for name, network in networks.items():
            found[f"{name}_batch_{rows}_per_s"] = round(
                rows * _calls_per_s(network, inputs, seconds)
            )
    return found


def _calls_per_s(
    network: Callable[..., Any], inputs: tuple[NDArray[Any], ...], seconds: float
) -> float:
    """Return the median rate of five turns: what else the machine does slows some of them."""
    turns: list[float] = []
    for _ in range(5):
        calls, begun = 0, time.perf_counter()
        while (took := time.perf_counter() - begun) < seconds / 5:
            for _ in range(10):
                network(*inputs)
            calls += 10
        turns.append(calls / took)
    return float(np.median(turns))
