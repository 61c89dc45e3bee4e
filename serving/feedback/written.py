"""Which predictions the outcomes topic holds an outcome of."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from features.engine.identities import hashes
from serving.feedback.records import outcome_key
from serving.pipeline import Pipeline
from streams.replay import offset_bounds, read_ranges
from streams.wire import Stage


class _Id(msgspec.Struct, gc=False):
    prediction_id: str
    stage: Stage


class WrittenOutcomes:
    """Their keys (:func:`serving.feedback.records.outcome_key`) as 64-bit hashes: two of 100
    million share one with a probability of 3 in 10,000."""

    def __init__(self, keys: NDArray[np.int64]) -> None:
        self._keys = np.sort(keys)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._keys)

    def has(self, keys: Sequence[str]) -> NDArray[np.bool_]:
        """Return which of n keys are written, (n,)."""
        wanted = hashes(keys)
        at = np.minimum(np.searchsorted(self._keys, wanted), max(len(self) - 1, 0))
        found: NDArray[np.bool_] = self._keys[at] == wanted if len(self) else wanted != wanted
        return found

    @classmethod
    def read(cls, bootstrap: str, pipeline: Pipeline) -> WrittenOutcomes:
        """Read the outcomes topic; raises BrokerError."""
        topic = pipeline.topics.outcomes
        ranges = offset_bounds(bootstrap, topic, pipeline.events.partitions)
        decode = msgspec.json.Decoder(_Id).decode
        keys = [np.empty(0, np.int64)]
        for batch in read_ranges(bootstrap, topic, ranges):
            found = [decode(value) for value in batch.values if value is not None]
            keys.append(hashes([outcome_key(each.prediction_id, each.stage) for each in found]))
        return cls(np.concatenate(keys))
