"""How long records were on their way, by the times of the clock on the wall that they carry.

Event times count only where the stream is live (:func:`streams.hops.live`): in a replay they say
nothing of the pipeline.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from streams import hops
from streams.batch import LogBatch
from streams.clock import SystemClock

EVERY = 32
"""Records of a stretch lie close together: every so-manieth is looked at, and stands for those
behind it."""

_CLOCK = SystemClock()


class _Times(msgspec.Struct, gc=False):
    predicted_ms: int


class _Answered(msgspec.Struct, gc=False):
    times: _Times


_decode = msgspec.json.Decoder(_Answered).decode


def now_ms() -> int:
    """Return the time of the clock on the wall."""
    return _CLOCK.now_ms()


def note_answers(
    featurised_ms: Sequence[int | None], event_times_ms: NDArray[np.int64], predicted_ms: int
) -> None:
    """Note n answers made at ``predicted_ms``: since their features were made, and, where the
    stream is live, since their events."""
    known = [at_ms for at_ms in featurised_ms if at_ms is not None]
    hops.note("features_to_prediction", predicted_ms - np.array(known, np.int64))
    hops.note("event_to_prediction", hops.live(event_times_ms, predicted_ms))


def note_arrival(hop: str, predictions: LogBatch, at_ms: int) -> None:
    """Note that a stretch of predictions came at ``at_ms``, by the time at which they were made."""
    found, n = [], len(predictions)
    for value in predictions.values[::EVERY]:
        try:
            found.append(_decode(value or b"").times.predicted_ms)
        except msgspec.MsgspecError:
            return  # who reads the record says what is wrong with it
    hops.note(hop, np.repeat(at_ms - np.array(found, np.int64), EVERY)[:n])
