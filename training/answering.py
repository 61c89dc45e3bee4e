"""A loaded model answers rows, or histories: each answer to the last bit its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from torch import nn

BLOCK_ROWS = 256


class Package:
    """A loaded model.

    The answer to a row depends on that row, or that history, alone, to the last bit: the network
    always sees blocks of the same number of rows, filled up with zeros, so that the same kernels
    run, and its inputs are aligned (:mod:`training.networks.alignment`).
    """

    def __init__(
        self,
        manifest: dict[str, Any],
        task: Task,
        shape: Shape,
        encoding: Encoding,
        calibration: Calibration,
        reference: Reference,
        network: nn.Module,
    ) -> None:
        import torch

        torch.set_num_threads(1)  # sums in one order; workers scale by partitions
        self.manifest, self.task, self.reference = manifest, task, reference
        self._shape, self._encoding, self._calibration = shape, encoding, calibration
        self._network = network

    @property
    def last(self) -> int:
        """How many events of an entity the network sees, or 0 for the one event alone."""
        return self._shape.last

    def answers(self, rows: Columns | Histories) -> Answers:
        """Return the calibrated answers to n rows, or to n histories where :attr:`last` is set.

        Raises:
            ModelError: the columns are not those of the model's definition.
        """
        return self._calibration.answers(self._outputs(rows))

    def predict(self, rows: Columns | Histories) -> NDArray[np.float64]:
        """Return the ``score`` of each answer, (n,); see :class:`training.answers.Answers`."""
        return self.answers(rows).score

    def _outputs(self, rows: Columns | Histories) -> NDArray[np.float64]:
        import torch

        last = self.last
        if isinstance(rows, Histories) != (last > 0):
            raise ModelError(
                f"the network sees {last or 'no'} last events of an entity, and was given "
                f"{'histories' if not last else 'rows without their histories'}"
            )
        n = len(rows) if isinstance(rows, Histories) else len(rows.numeric)
        outputs = np.empty((-(-n // BLOCK_ROWS) * BLOCK_ROWS, self._shape.outputs), np.float32)
        with torch.inference_mode():
            blocks = self._histories(rows) if isinstance(rows, Histories) else self._rows(rows)
            for i, inputs in enumerate(blocks):
                answer = self._network(*map(torch.from_numpy, inputs))
                outputs[i * BLOCK_ROWS : (i + 1) * BLOCK_ROWS] = answer.numpy()
        return outputs[:n].astype(np.float64)

    def _rows(self, rows: Columns) -> Iterator[tuple[NDArray[Any], ...]]:
        """Yield the inputs of blocks of rows."""
        n = len(rows.numeric)
        numeric, codes = self._encoded(rows, -(-n // BLOCK_ROWS) * BLOCK_ROWS)
        for start in range(0, n, BLOCK_ROWS):
            block = slice(start, start + BLOCK_ROWS)
            yield numeric[block], codes[block]

    def _histories(self, rows: Histories) -> Iterator[tuple[NDArray[Any], ...]]:
        """Yield the inputs of blocks of histories; each event is encoded once."""
        # Behind the events one of zeros: what an index of −1 finds.
        numeric, codes = self._encoded(rows.events, len(rows.events.numeric) + 1)
        for start in range(0, len(rows), BLOCK_ROWS):
            index = np.full((BLOCK_ROWS, self.last), -1)
            block = rows.index[start : start + BLOCK_ROWS, -self.last :]
            index[: len(block)] = block
            lengths = np.maximum((index >= 0).sum(1), 1)  # of a history that fills up: 1
            yield numeric[index], codes[index], lengths

    def _encoded(self, rows: Columns, size: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return the inputs of rows, filled up with zeros to ``size`` rows."""
        n = len(rows.numeric)
        numeric = np.zeros((size, self._encoding.numeric_width), np.float32)
        codes = np.zeros((size, len(self._encoding.category_names)), np.int64)
        numeric[:n] = self._encoding.numeric_inputs(rows.numeric)
        codes[:n] = self._encoding.codes(rows.categories, n)
        return numeric, codes
