"""A network run by torch: on a GPU, or on the CPU where ONNX Runtime can't.

torch's kernels for the CPU choose another order of sums for other numbers of rows, so all blocks
get the same number, filled up with zeros, and inputs are aligned
(:mod:`training.networks.alignment`). torch is imported where a network is made, not before.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from streams.errors import ConfigurationError, ModelError
from training.networks.shape import Shape

if TYPE_CHECKING:
    import torch

BLOCK_ROWS = 256

_GPU_DEVICES = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")  # NVIDIA, the same under WSL, AMD


class TorchNetwork:
    """A network; each call has exactly ``rows`` rows.

    Args:
        weights: parameter's name → value.
        shape: of the network they belong to. One of the user's own is imported and so executed.
        device: "cpu" or "cuda".

    Raises:
        ModelError: the weights do not fit the shape.
    """

    rows, is_filled = BLOCK_ROWS, True

    def __init__(
        self, weights: Mapping[str, NDArray[np.float32]], shape: Shape, device: str = "cpu"
    ) -> None:
        import torch

        from training.networks.alignment import align
        from training.networks.build import build

        torch.set_num_threads(1)  # sums in one order; workers scale by partitions
        try:
            with torch.random.fork_rng(devices=[]):  # building draws values; disturb nobody
                network = build(shape)
            network.load_state_dict({k: torch.from_numpy(v) for k, v in weights.items()})
        except RuntimeError as error:
            raise ModelError(
                f"the weights do not fit the network that the manifest describes: {error}"
            ) from error
        self._device = torch.device(device)
        self._network = align(network.eval()).to(self._device)
        self.runs_on = "torch" if device == "cpu" else f"torch on {device}"

    def __call__(self, *inputs: NDArray[Any]) -> NDArray[np.float32]:
        """Return outputs (n, O) of the inputs of n rows."""
        import torch

        with torch.inference_mode():
            given = [torch.from_numpy(each).to(self._device) for each in inputs]
            answer: torch.Tensor = self._network(*given)
            outputs: NDArray[np.float32] = answer.cpu().numpy()
        return outputs


def has_gpu() -> bool:
    """Whether torch can compute on a GPU here; torch is imported only where there may be one."""
    if not any(Path(device).exists() for device in _GPU_DEVICES):
        return False
    import torch

    return torch.cuda.is_available()


def require_gpu() -> None:
    """Raise ConfigurationError where there is no GPU."""
    if not has_gpu():
        raise ConfigurationError(
            "KAPPA_ANSWER_WITH=cuda, and torch finds no GPU here: see `nvidia-smi`, or leave the "
            "setting at auto"
        )
