"""What has no window: the time since the last event, and means in which the past fades.

They remember an entity for good, unless the definition forgets it: at an event by which the
watermark is more than ``forget`` beyond the entity's newest event, they begin anew.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.aggregations import DecayedMean, TimeSinceLast
from features.engine.columns import Wanted
from features.engine.inputs import number_of
from streams.compiled import compiled
from streams.durations import seconds

NEVER = np.iinfo(np.int64).min
"""Event time of an entity that has had none."""
EVERY_EVENT = -1
NO_FORGETTING = -1
SINCE, DECAYED = range(2)

_FIRST_SLOTS = 64

Windowless = TimeSinceLast | DecayedMean


@dataclass(frozen=True)
class MemoryPlan:
    """Windowless features as tables that the compiled loop reads.

    - ``lasts`` (lasts,): column of the number that an event must have, or EVERY_EVENT.
    - ``decays`` (means,): column of the number; ``half_lives_ms`` (means,).
    - ``outputs`` (features, 2): SINCE and row of ``lasts``, or DECAYED and row of ``decays``.
    """

    lasts: NDArray[np.int64]
    decays: NDArray[np.int64]
    half_lives_ms: NDArray[np.float64]
    outputs: NDArray[np.int64]
    forget_ms: int


def plan_memories(
    features: Sequence[Windowless], wanted: Wanted, forget_ms: int | None
) -> MemoryPlan:
    """Return the tables for some features, outputs in their order."""
    lasts: list[int] = []
    decays: list[tuple[int, int]] = []
    outputs = []
    for feature in features:
        number = number_of(feature)
        column = EVERY_EVENT if number is None else wanted.expressions.index(number)
        if isinstance(feature, TimeSinceLast):
            lasts += [] if column in lasts else [column]
            outputs.append((SINCE, lasts.index(column)))
        else:
            decay = (column, seconds(feature.half_life) * 1000)
            decays += [] if decay in decays else [decay]
            outputs.append((DECAYED, decays.index(decay)))
    return MemoryPlan(
        lasts=np.array(lasts, dtype=np.int64),
        decays=np.array([column for column, _ in decays], dtype=np.int64),
        half_lives_ms=np.array([half_life for _, half_life in decays], dtype=np.float64),
        outputs=np.array(outputs, dtype=np.int64).reshape(-1, 2),
        forget_ms=NO_FORGETTING if forget_ms is None else forget_ms,
    )


class Memories:
    """The windowless state of every entity of one partition.

    Per slot: ``newest_ms`` its newest event time, ``last_ms`` (lasts,) those of events that count,
    ``means`` (means, 3) the weighted sum, the weight and the event time that they refer to.
    """

    def __init__(self, plan: MemoryPlan) -> None:
        self._plan = plan
        self._newest_ms, self._last_ms, self._means = _nothing(_FIRST_SLOTS, plan)

    def update(
        self,
        slots: NDArray[np.int64],
        times_ms: NDArray[np.int64],
        watermarks_ms: NDArray[np.int64],
        numbers: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """Take events in log order; return the features before each is counted in."""
        plan = self._plan
        values = np.empty((len(slots), len(plan.outputs)), dtype=np.float64)
        if len(plan.outputs) and len(slots):
            self._make_slots(int(slots.max()) + 1)
            _update(
                slots,
                times_ms,
                watermarks_ms,
                numbers,
                plan.lasts,
                plan.decays,
                plan.half_lives_ms,
                plan.outputs,
                plan.forget_ms,
                self._newest_ms,
                self._last_ms,
                self._means,
                values,
            )
        return values

    @property
    def nbytes(self) -> int:
        """How much memory the state takes, in bytes."""
        return self._newest_ms.nbytes + self._last_ms.nbytes + self._means.nbytes

    def expired(self, slots: int, watermark_ms: int) -> NDArray[np.bool_]:
        """Return which of the first ``slots`` entities are forgotten, or hold nothing."""
        if not len(self._plan.outputs):
            return np.ones(slots, dtype=np.bool_)
        self._make_slots(slots)
        newest_ms = self._newest_ms[:slots]
        gone: NDArray[np.bool_] = newest_ms == NEVER
        if self._plan.forget_ms != NO_FORGETTING:
            gone |= newest_ms < watermark_ms - self._plan.forget_ms
        return gone

    def snapshot(self, slots: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """Return the state of some slots as plain arrays."""
        if not len(self._plan.outputs):
            slots = slots[:0]
        self._make_slots(int(slots[-1]) + 1 if len(slots) else 0)
        return {
            "newest_ms": self._newest_ms[slots],
            "last_ms": self._last_ms[slots],
            "means": self._means[slots],
        }

    @classmethod
    def restore(
        cls, plan: MemoryPlan, arrays: Mapping[str, NDArray[Any]], slots: int
    ) -> "Memories":
        """Return the state whose :meth:`snapshot` the arrays are; ValueError if none is."""
        memories = cls(plan)
        slots = slots if len(plan.outputs) else 0
        memories._make_slots(slots)
        for name, array in (
            ("newest_ms", memories._newest_ms),
            ("last_ms", memories._last_ms),
            ("means", memories._means),
        ):
            if arrays[name].shape != array[:slots].shape:
                raise ValueError(f"{name} has shape {arrays[name].shape} for {slots} entities")
            array[:slots] = arrays[name]
        return memories

    def _make_slots(self, slots: int) -> None:
        size = len(self._newest_ms)
        while size < slots:
            size += size // 2
        if size > len(self._newest_ms):
            newest_ms, last_ms, means = _nothing(size - len(self._newest_ms), self._plan)
            self._newest_ms = np.append(self._newest_ms, newest_ms)
            self._last_ms = np.append(self._last_ms, last_ms, axis=0)
            self._means = np.append(self._means, means, axis=0)


def _nothing(
    slots: int, plan: MemoryPlan
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    return (
        np.full(slots, NEVER, dtype=np.int64),
        np.full((slots, len(plan.lasts)), NEVER, dtype=np.int64),
        np.zeros((slots, len(plan.decays), 3), dtype=np.float64),
    )


@compiled
def _update(
    slots: NDArray[np.int64],
    times_ms: NDArray[np.int64],
    watermarks_ms: NDArray[np.int64],
    numbers: NDArray[np.float64],
    lasts: NDArray[np.int64],
    decays: NDArray[np.int64],
    half_lives_ms: NDArray[np.float64],
    outputs: NDArray[np.int64],
    forget_ms: int,
    newest_ms: NDArray[np.int64],
    last_ms: NDArray[np.int64],
    means: NDArray[np.float64],
    values: NDArray[np.float64],
) -> None:
    for i in range(len(slots)):
        slot, now = slots[i], times_ms[i]
        newest = newest_ms[slot]
        if forget_ms >= 0 and newest != NEVER and newest < watermarks_ms[i] - forget_ms:
            newest = NEVER
            last_ms[slot] = NEVER
            means[slot] = 0.0
        newest_ms[slot] = max(newest, now)
        for o in range(len(outputs)):
            x = outputs[o, 1]
            if outputs[o, 0] == SINCE:
                last = last_ms[slot, x]
                values[i, o] = np.nan if last == NEVER else max(0, now - last) / 1000.0
            else:
                weight = means[slot, x, 1]
                values[i, o] = means[slot, x, 0] / weight if weight > 0 else np.nan
        for x in range(len(lasts)):
            if lasts[x] == EVERY_EVENT or not np.isnan(numbers[i, lasts[x]]):
                last_ms[slot, x] = max(last_ms[slot, x], now)
        for x in range(len(decays)):
            number = numbers[i, decays[x]]
            if not np.isnan(number):
                _fade_in(means[slot, x], number, now, half_lives_ms[x])


@compiled
def _fade_in(mean: NDArray[np.float64], number: float, now_ms: int, half_life_ms: float) -> None:
    """Count a value in; all weights are those at the newest event time so far, ``mean[2]``."""
    if mean[1] == 0:
        mean[0], mean[1], mean[2] = number, 1.0, now_ms
        return
    faded = _half_to((now_ms - mean[2]) / half_life_ms)
    if now_ms >= mean[2]:
        mean[0], mean[1], mean[2] = mean[0] * faded + number, mean[1] * faded + 1.0, now_ms
    else:
        mean[0] += number * faded
        mean[1] += faded


@compiled
def _half_to(power: float) -> float:
    """Return 2^−\\|power\\|, by plain products and sums: the same bits on every machine."""
    power = abs(power)
    if power > 1000:
        return 0.0
    whole = int(power)
    x = -(power - whole) * 0.6931471805599453
    term, total = 1.0, 1.0
    for n in range(1, 18):
        term *= x / n
        total += term
    return math.ldexp(total, -whole)
