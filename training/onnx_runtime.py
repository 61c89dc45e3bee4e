"""A network run by ONNX Runtime, on one thread.

Its matrix kernels sum each row in an order of its own, so a row's answer has the same bits however
many rows stand beside it; seen on AVX2 at widths from 1 to 256. That is a property of kernels that
are chosen by the processor, so each process tries it once per network (about 5 ms): where it does
not hold, all blocks get the same number of rows, as torch's do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streams.errors import ModelError
from training.networks.shape import Shape

FIXED_ROWS = 256
ANY_ROWS = 1024


class UnsteadyError(ModelError):
    """On this processor a row's answer depends on its place in a block; torch has to answer."""


_TRIED = 67  # rows: more than a kernel takes at once, and no multiple of what it does


class OnnxNetwork:
    """A network; ``rows`` per call at most, and where ``is_filled`` exactly so many.

    Args:
        model: an ONNX model, as :func:`training.onnx_networks.onnx_model` writes it.
        shape: what it has to fit.

    Raises:
        ModelError: it is no model, or not of that shape.
        UnsteadyError: here its answers depend on more than the row.
    """

    runs_on = "onnxruntime"

    def __init__(self, model: bytes, shape: Shape) -> None:
        try:
            self._session = _session(model)
        except Exception as error:  # onnxruntime has an error per cause, and no common one
            raise ModelError(f"model.onnx can't be loaded: {error}") from error
        self._names = [value.name for value in self._session.get_inputs()]
        self._check(shape)
        self.is_filled = not self._same_in_any_company(shape)
        if self.is_filled and not self._same_at_any_place(shape):
            raise UnsteadyError("a row's answer has other last bits at another place in the block")
        self.rows = FIXED_ROWS if self.is_filled else ANY_ROWS

    def __call__(self, *inputs: NDArray[Any]) -> NDArray[np.float32]:
        """Return outputs (n, O) of the inputs of n rows."""
        fed = dict(zip(self._names, inputs, strict=True))
        outputs: NDArray[np.float32] = self._session.run(None, fed)[0]
        return outputs

    def _check(self, shape: Shape) -> None:
        places: list[Any] = [shape.last] if shape.last else []
        wanted = [[*places, shape.numeric_width], [*places, len(shape.code_counts)]]
        wanted += [[]] if shape.last else []
        given = [value.shape[1:] for value in self._session.get_inputs()]
        made = [value.shape[1:] for value in self._session.get_outputs()]
        if given != wanted or made != [[shape.outputs]]:
            raise ModelError(
                f"model.onnx takes inputs of the shapes {given} and gives {made}, where the "
                f"manifest says {wanted} and {[[shape.outputs]]}: the files are of two models"
            )

    def _same_in_any_company(self, shape: Shape) -> bool:
        """Whether each row has the same bits in a whole block, among few, and alone."""
        inputs = random_inputs(shape, FIXED_ROWS)
        together = self(*inputs)[:_TRIED]
        for size in (1, 7, 16, _TRIED):
            starts = range(0, _TRIED, size)
            parts = [self(*(each[i : min(i + size, _TRIED)] for each in inputs)) for i in starts]
            if np.concatenate(parts).tobytes() != together.tobytes():
                return False
        return True

    def _same_at_any_place(self, shape: Shape) -> bool:
        inputs = random_inputs(shape, FIXED_ROWS)
        moved = self(*(np.roll(each, 3, axis=0) for each in inputs))
        return np.roll(self(*inputs), 3, axis=0).tobytes() == moved.tobytes()


def random_inputs(shape: Shape, rows: int) -> tuple[NDArray[Any], ...]:
    """Return inputs that a network of ``shape`` could be given; the same each time."""
    rng = np.random.default_rng(0)
    places: Sequence[int] = (rows, shape.last) if shape.last else (rows,)
    numeric = rng.normal(size=(*places, shape.numeric_width)).astype(np.float32)
    codes = np.empty((*places, len(shape.code_counts)), np.int64)
    for i, count in enumerate(shape.code_counts):
        codes[..., i] = rng.integers(0, count, places)
    if not shape.last:
        return numeric, codes
    return numeric, codes, rng.integers(1, shape.last + 1, rows)


def _session(model: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # workers scale by partitions
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.use_deterministic_compute = True
    options.log_severity_level = 3  # errors; what it says of its optimiser is no news
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
