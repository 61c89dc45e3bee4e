"""Prediction records: what the monitor needs of them, as columns."""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter

import msgspec
import numpy as np
from numpy.typing import NDArray

from serving.monitoring.told import Told, rows_of
from streams.batch import LogBatch
from training.networks.tasks import Task

_id, _version, _time = map(attrgetter, ("event_id", "model_version", "event_time_ms"))


@dataclass(frozen=True, slots=True)
class PredictionRows:
    """n predictions of one batch, log order; ``scores`` (n,) or (n, width) as of
    :mod:`serving.monitoring.told`."""

    event_ids: list[str]
    scores: NDArray[np.float64]
    versions: NDArray[np.int64]
    times_ms: NDArray[np.int64]


class PredictionCodec:
    """Decodes the values of the predictions topic, for models that answer ``task``."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._decode = msgspec.json.Decoder(list[Told]).decode

    def decode(self, batch: LogBatch) -> PredictionRows:
        """Return the predictions of a batch.

        Raises:
            msgspec.MsgspecError: a value is no prediction; only our workers write there.
        """
        # One list of all is decoded quicker than each by itself.
        told = self._decode(b"[%b]" % b",".join(v for v in batch.values if v is not None))
        n = len(told)
        return PredictionRows(
            list(map(_id, told)),
            rows_of(self._task, told),
            np.fromiter(map(_version, told), np.int64, n),
            np.fromiter(map(_time, told), np.int64, n),
        )
