"""A loaded model answers rows, or histories: each answer to the last bit its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from streams.errors import ModelError
from training.answers import Answers
from training.calibration import Calibration
from training.dataset.encoding import Encoding
from training.dataset.histories import Histories
from training.dataset.prepared import Columns
from training.networks.shape import Shape
from training.networks.tasks import Task
from training.reference import Reference


class Network(Protocol):
    """A network and what runs it: :class:`training.onnx_runtime.OnnxNetwork`, on the CPU, or
    :class:`training.torch_runtime.TorchNetwork`."""

    @property
    def runs_on(self) -> str:
        """What runs it, in words."""
        ...

    @property
    def rows(self) -> int:
        """How many rows it takes at once, at most."""
        ...

    @property
    def is_filled(self) -> bool:
        """Whether each call needs exactly so many."""
        ...

    def __call__(self, *inputs: NDArray[Any]) -> NDArray[np.float32]:
        """Return outputs (n, O) of numeric inputs, codes and, with histories, lengths."""
        ...


class Package:
    """A loaded model.

    The answer to a row depends on that row, or that history, alone, to the last bit: the network
    sees blocks of rows as what runs it needs them for that.
    """

    def __init__(
        self,
        manifest: dict[str, Any],
        task: Task,
        shape: Shape,
        encoding: Encoding,
        calibration: Calibration,
        reference: Reference,
        network: Network,
    ) -> None:
        self.manifest, self.task, self.reference = manifest, task, reference
        self.encoding = encoding
        self._shape, self._calibration, self._network = shape, calibration, network

    @property
    def last(self) -> int:
        """How many events of an entity the network sees, or 0 for the one event alone."""
        return self._shape.last

    @property
    def runs_on(self) -> str:
        """What runs the network, in words."""
        return self._network.runs_on

    def answers(self, rows: Columns | Histories) -> Answers:
        """Return the calibrated answers to n rows, or to n histories where :attr:`last` is set.

        Raises:
            ModelError: the columns are not those of the model's definition.
        """
        return self._calibration.answers(
            outputs_of(self._network, self.encoding, self._shape, rows)
        )

    def predict(self, rows: Columns | Histories) -> NDArray[np.float64]:
        """Return the ``score`` of each answer, (n,); see :class:`training.answers.Answers`."""
        return self.answers(rows).score

    def warm_up(self) -> None:
        """Answer one row that says nothing, so that no real one waits for what is done once."""
        numeric = np.full((1, len(self.encoding.numeric_names)), np.nan)
        blank = _Blank(numeric, [[""] for _ in self.encoding.category_names])
        if self.last:
            self.answers(Histories(blank, np.zeros((1, self.last), np.int64)))
        else:
            self.answers(blank)


class _Blank:
    """Feature values of rows."""

    def __init__(self, numeric: NDArray[np.float64], categories: list[list[str]]) -> None:
        self.numeric, self.categories = numeric, categories


def outputs_of(
    network: Network, encoding: Encoding, shape: Shape, rows: Columns | Histories
) -> NDArray[np.float64]:
    """Return the network's outputs (n, O) for n rows, or n histories where it sees last events.

    Raises:
        ModelError: they are rows where histories are needed, or the other way round; or the columns
            are none of the encoding's.
    """
    last, size = shape.last, network.rows
    if isinstance(rows, Histories) != (last > 0):
        raise ModelError(
            f"the network sees {last or 'no'} last events of an entity, and was given "
            f"{'histories' if not last else 'rows without their histories'}"
        )
    n = len(rows) if isinstance(rows, Histories) else len(rows.numeric)
    filled = -(-n // size) * size if network.is_filled else n
    outputs = np.empty((filled, shape.outputs), np.float32)
    if isinstance(rows, Histories):
        blocks = _histories(encoding, rows, last, size, filled)
    else:
        blocks = _rows(encoding, rows, size, filled)
    for start, inputs in zip(range(0, filled, size), blocks, strict=True):
        outputs[start : start + size] = network(*inputs)
    return outputs[:n].astype(np.float64)


def _rows(
    encoding: Encoding, rows: Columns, size: int, filled: int
) -> Iterator[tuple[NDArray[Any], ...]]:
    """Yield the inputs of blocks of rows."""
    numeric, codes = _encoded(encoding, rows, filled)
    for start in range(0, filled, size):
        block = slice(start, start + size)
        yield numeric[block], codes[block]


def _histories(
    encoding: Encoding, rows: Histories, last: int, size: int, filled: int
) -> Iterator[tuple[NDArray[Any], ...]]:
    """Yield the inputs of blocks of histories; each event is encoded once."""
    # Behind the events one of zeros: what an index of −1 finds.
    numeric, codes = _encoded(encoding, rows.events, len(rows.events.numeric) + 1)
    for start in range(0, filled, size):
        block = rows.index[start : start + size, -last:]
        index = np.full((min(size, filled - start), last), -1)
        index[: len(block)] = block
        lengths = np.maximum((index >= 0).sum(1), 1)  # of a history that fills up: 1
        yield numeric[index], codes[index], lengths


def _encoded(
    encoding: Encoding, rows: Columns, size: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the inputs of rows, filled up with zeros to ``size`` rows."""
    n = len(rows.numeric)
    numeric = np.zeros((size, encoding.numeric_width), np.float32)
    codes = np.zeros((size, len(encoding.category_names)), np.int64)
    numeric[:n] = encoding.numeric_inputs(rows.numeric)
    codes[:n] = encoding.codes(rows.categories, n)
    return numeric, codes
