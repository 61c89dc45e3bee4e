"""Events that are taken at once, and the labels among them; cut where entities are given up."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.engine.columns import EventColumns
from features.engine.label_feed import PlacedLabels


@dataclass(frozen=True, slots=True)
class Moment:
    """What is taken at once: events in log order, and the labels placed among them."""

    columns: EventColumns
    entities: list[str]  # of the stage's key
    watermarks_ms: NDArray[np.int64]
    is_late: NDArray[np.bool_]
    before_ms: int  # the watermark before the first event
    placed: PlacedLabels | None

    def split(self, event: int) -> tuple["Moment", "Moment"]:
        """Return the events before the given one, with the labels up to it, and the others."""
        n = len(self.entities)
        placed = (None, None) if self.placed is None else self.placed.split(event)
        before_ms = int(self.watermarks_ms[event - 1]) if event else self.before_ms
        return (
            self._between(0, event, self.before_ms, placed[0]),
            self._between(event, n, before_ms, placed[1]),
        )

    def _between(
        self, first: int, end: int, before_ms: int, placed: PlacedLabels | None
    ) -> "Moment":
        part = slice(first, end)
        return Moment(
            columns=self.columns.between(first, end),
            entities=self.entities[part],
            watermarks_ms=self.watermarks_ms[part],
            is_late=self.is_late[part],
            before_ms=before_ms,
            placed=placed,
        )
