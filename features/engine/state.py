"""All that a stage remembers of its entities, by slot: sums, cells, memories."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.aggregations import (
    Count,
    Rate,
    Remembering,
    Std,
    TimeSinceLast,
    Windowed,
)
from features.engine.cell_plan import CellPlan, plan_cells
from features.engine.cell_state import CellState, Feeds
from features.engine.columns import EventColumns, Wanted
from features.engine.memories import NO_FORGETTING, Memories, MemoryPlan, Windowless, plan_memories
from features.engine.window_plan import Summed, WindowPlan, is_summed, plan_windows
from features.engine.windows import WindowState

NOTHING = Wanted([], [])
"""Columns of nothing."""


@dataclass(frozen=True)
class StatePlan:
    """A stage's features, by the part of the state that makes them.

    ``columns`` are the places of the parts' outputs among the features: those of the sums, of the
    cells of events, of the cells of labels, of the memories.
    """

    features: Sequence[Remembering]
    sums: WindowPlan
    event_cells: CellPlan
    label_cells: CellPlan
    memories: MemoryPlan
    columns: tuple[list[int], ...]

    @property
    def reads_labels(self) -> bool:
        """Whether a feature is made of labels."""
        return len(self.label_cells.reads) > 0

    @property
    def remembered_ms(self) -> int | None:
        """For how long at most something is kept behind the watermark; None: for good."""
        longest = 0
        if len(self.memories.outputs):
            if self.memories.forget_ms == NO_FORGETTING:
                return None
            longest = self.memories.forget_ms
        for table in (self.sums.tiles, self.event_cells.families, self.label_cells.families):
            longest = max(longest, int((table[:, 0] * table[:, 2]).max(initial=0)))
        return longest


def plan_state(
    features: Sequence[Remembering],
    events: Wanted,
    labels: Wanted,
    lateness_ms: int,
    forget_ms: int | None,
) -> StatePlan:
    """Return the plan for some features; ``events`` and ``labels`` are what the columns hold."""
    sums: list[tuple[int, Summed]] = []
    of_events: list[tuple[int, Windowed]] = []
    of_labels: list[tuple[int, Windowed]] = []
    memories: list[tuple[int, Windowless]] = []
    for i, feature in enumerate(features):
        if is_summed(feature):
            sums.append((i, feature))
        elif isinstance(feature, Windowed):
            (of_labels if feature.on == "labels" else of_events).append((i, feature))
        elif isinstance(feature, Windowless):
            memories.append((i, feature))
        else:
            raise TypeError(f"{feature!r} is no feature that remembers")
    return StatePlan(
        features=features,
        sums=plan_windows([f for _, f in sums], events, lateness_ms),
        event_cells=plan_cells([f for _, f in of_events], events, lateness_ms, on_labels=False),
        label_cells=plan_cells([f for _, f in of_labels], labels, lateness_ms, on_labels=True),
        memories=plan_memories([f for _, f in memories], events, forget_ms),
        columns=tuple([i for i, _ in part] for part in (sums, of_events, of_labels, memories)),
    )


class EntityState:
    """What one stage remembers of the entities of one partition."""

    def __init__(self, plan: StatePlan) -> None:
        self._plan = plan
        self._sums = WindowState(plan.sums)
        self._event_cells = CellState(plan.event_cells)
        self._label_cells = CellState(plan.label_cells)
        self._memories = Memories(plan.memories)

    def update(
        self,
        slots: NDArray[np.int64],
        columns: EventColumns,
        watermarks_ms: NDArray[np.int64],
        is_late: NDArray[np.bool_],
        labels: Feeds,
    ) -> NDArray[np.float64]:
        """Take events, and labels among them, in log order.

        Returns:
            The features at each event, before it is counted in, shape (n, features).
        """
        plan, times_ms, numbers = self._plan, columns.event_times_ms, columns.numbers
        values = np.empty((len(slots), len(plan.features)), dtype=np.float64)
        sums, of_events, of_labels, memories = plan.columns
        values[:, sums] = self._sums.update(slots, times_ms, watermarks_ms, is_late, numbers)
        if of_events:
            feeds = _of_events(slots, columns, watermarks_ms, is_late)
            values[:, of_events] = self._event_cells.update(feeds, slots, times_ms, watermarks_ms)
        if of_labels:
            values[:, of_labels] = self._label_cells.update(labels, slots, times_ms, watermarks_ms)
        if memories:
            made = self._memories.update(slots, times_ms, watermarks_ms, numbers)
            values[:, memories] = made
        for i, feature in enumerate(plan.features):
            if isinstance(feature, Rate):
                values[:, i] = values[:, i] * feature.per_ms / feature.over_ms
            elif isinstance(feature, Std):
                values[:, i] = np.sqrt(values[:, i])
        return values

    @property
    def nbytes(self) -> int:
        """How much memory the state takes, in bytes."""
        parts = (self._sums, self._event_cells, self._label_cells, self._memories)
        return sum(part.nbytes for part in parts)

    def expired(self, slots: int, watermark_ms: int) -> NDArray[np.bool_]:
        """Return which of the first ``slots`` entities are as if they had never been seen.

        Whatever comes later, at a watermark no less, they give the same values as new ones.
        """
        gone = np.ones(slots, dtype=np.bool_)
        for part in (self._sums, self._event_cells, self._label_cells, self._memories):
            gone &= part.expired(slots, watermark_ms)
        return gone

    def snapshot(self, slots: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """Return the state of some slots, ascending, as arrays that depend on the log alone."""
        return {
            **self._sums.snapshot(slots),
            **self._event_cells.snapshot("event", slots),
            **self._label_cells.snapshot("label", slots),
            **self._memories.snapshot(slots),
        }

    @classmethod
    def restore(
        cls, plan: StatePlan, arrays: Mapping[str, NDArray[Any]], slots: int
    ) -> "EntityState":
        """Return the state whose :meth:`snapshot` the arrays are; ValueError if none is."""
        state = cls(plan)
        state._sums = WindowState.restore(plan.sums, arrays, slots)
        state._event_cells = CellState.restore(plan.event_cells, "event", arrays, slots)
        state._label_cells = CellState.restore(plan.label_cells, "label", arrays, slots)
        state._memories = Memories.restore(plan.memories, arrays, slots)
        return state


def _of_events(
    slots: NDArray[np.int64],
    columns: EventColumns,
    watermarks_ms: NDArray[np.int64],
    is_late: NDArray[np.bool_],
) -> Feeds:
    """Return the events that are not too late, each counted in after it was read at."""
    if not is_late.any():
        return Feeds(
            np.arange(1, len(slots) + 1, dtype=np.int64),
            slots,
            columns.event_times_ms,
            watermarks_ms,
            columns.numbers,
            columns.hashes,
        )
    kept = np.flatnonzero(~is_late)
    return Feeds(
        kept + 1,
        slots[kept],
        columns.event_times_ms[kept],
        watermarks_ms[kept],
        columns.numbers[kept],
        columns.hashes[kept],
    )


def _no_feeds() -> Feeds:
    none = np.empty(0, dtype=np.int64)
    return Feeds(
        none, none, none, none, np.empty((0, 0), dtype=np.float64), np.empty((0, 0), dtype=np.int64)
    )


NO_FEEDS = _no_feeds()


def warm_up_state() -> None:
    """Load the compiled loops of all parts."""
    features = [Count("1s", "1s"), Count("1s", "1s", delay="1s"), TimeSinceLast()]
    state = EntityState(plan_state(features, NOTHING, NOTHING, 0, None))
    one, none = np.zeros(1, dtype=np.int64), np.empty((1, 0), dtype=np.float64)
    columns = EventColumns(one, [""], [""], one, none, {}, np.empty((1, 0), dtype=np.int64))
    state.update(one, columns, one, np.zeros(1, dtype=np.bool_), NO_FEEDS)
