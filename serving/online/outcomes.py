"""Outcomes on their way to the learner: what is needed of each, as columns, in log order."""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from streams.batch import LogBatch
from streams.errors import StateError
from training.networks.tasks import Task
from training.targets import usable_targets

LIVE_STAGES = ("live", "canary", "experiment")
"""Of each event there is one outcome of these; one in shadow is of the same event again."""

OUTCOME = np.dtype(
    [
        ("offset", np.int64),
        ("target", np.float64),
        ("partition", np.int64),
        ("row", np.int64),
        ("time_ms", np.int64),
    ]
)
"""An outcome: its offset, the target, partition and offset of its features, the label's time."""

Rows = NDArray[np.void]


class _Outcome(msgspec.Struct, gc=False):
    """What is needed of a :class:`streams.wire.Outcome`."""

    label: float
    stage: str
    definition: int
    label_time_ms: int
    features_partition: int | None = None
    features_offset: int | None = None


_decoder = msgspec.json.Decoder(_Outcome)


def usable_outcomes(batch: LogBatch, definition: int, task: Task, after_ms: int) -> Rows:
    """Return the outcomes of a stretch that may be learned from, in log order.

    These are the live path's on ``definition``, with a row of features and a target of ``task``,
    whose label came after ``after_ms``: what came before, the base has learned already.

    Raises:
        StateError: a record is no outcome.
    """
    try:
        told = [_decoder.decode(value) for value in batch.values if value is not None]
    except msgspec.DecodeError as error:
        raise StateError(
            f"{batch.topic}, partition {batch.partition}, from offset {int(batch.offsets[0])}: a "
            f"record is no outcome: {error}; another program wrote to the topic"
        ) from error
    valued = [value is not None for value in batch.values]
    rows = np.zeros(len(told), OUTCOME)
    rows["offset"] = batch.offsets[valued]
    rows["target"] = [each.label for each in told]
    rows["partition"] = [_known(each.features_partition) for each in told]
    rows["row"] = [_known(each.features_offset) for each in told]
    rows["time_ms"] = [each.label_time_ms for each in told]
    mine = np.array(
        [each.stage in LIVE_STAGES and each.definition == definition for each in told], bool
    )
    usable = mine & usable_targets(task, rows["target"])
    usable &= (rows["partition"] >= 0) & (rows["row"] >= 0) & (rows["time_ms"] > after_ms)
    return rows[usable]


def _known(number: int | None) -> int:
    return -1 if number is None else number
