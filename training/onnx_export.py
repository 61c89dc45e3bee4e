"""Makes the ONNX model of a network, and holds it against torch before anything is served by it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.answering import outputs_of
from training.dataset.encoding import Encoding
from training.dataset.histories import Histories
from training.dataset.prepared import Columns
from training.networks.shape import Shape
from training.onnx_networks import NotExportedError, Weights, onnx_model
from training.onnx_runtime import OnnxNetwork, UnsteadyError, random_inputs
from training.torch_runtime import TorchNetwork

TOLERANCE = 1e-4
"""How far an output of ONNX Runtime may be from torch's y: TOLERANCE · (1 + |y|). The probability
of a binary task, whose slope is p · (1 - p), is then off by 0.00004 at most."""

CHECKED_ROWS = 4096


@dataclass(frozen=True)
class Trial:
    """Real rows, or histories, to try a model on.

    ``outputs`` (n, O) are what torch answered to them in float32; None where it is to be asked.
    """

    rows: Columns | Histories
    outputs: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Exported:
    """The model, None where torch has to answer; ``about`` is what the manifest says of it."""

    model: bytes | None
    about: dict[str, Any]


def export(
    shape: Shape, weights: Weights, encoding: Encoding, trial: Trial | None = None
) -> Exported:
    """Return the network of ``shape`` as an ONNX model that was seen to give what torch gives.

    Args:
        shape: of the network.
        weights: its parameters.
        encoding: how rows become its inputs.
        trial: rows to try it on; without any, inputs are drawn.

    Raises:
        ModelError: the weights are none of the network's.
    """
    try:
        model = onnx_model(shape, weights)
        network = OnnxNetwork(model, shape)
    except (NotExportedError, UnsteadyError) as error:
        return Exported(None, {"not_exported": str(error)})
    if trial is None:
        inputs = random_inputs(shape, TorchNetwork.rows)
        found, expected = network(*inputs), TorchNetwork(weights, shape)(*inputs)
        return _held_against(model, found.astype(np.float64), expected.astype(np.float64))
    outputs = trial.outputs
    if outputs is None:
        outputs = outputs_of(TorchNetwork(weights, shape), encoding, shape, trial.rows)
    return _held_against(model, outputs_of(network, encoding, shape, trial.rows), outputs)


def _held_against(
    model: bytes, found: NDArray[np.float64], expected: NDArray[np.float64]
) -> Exported:
    off = np.abs(found - expected)
    worst = float(np.nan_to_num(off, nan=np.inf).max(initial=0.0))
    about = {
        "checked_rows": len(found),
        "tolerance": TOLERANCE,
        "largest_difference": f"{worst:.2g}",
    }
    if bool((off <= TOLERANCE * (1 + np.abs(expected))).all()):  # NaN is none
        return Exported(model, about)
    return Exported(None, {**about, "not_exported": "ONNX Runtime does not give what torch gives"})
